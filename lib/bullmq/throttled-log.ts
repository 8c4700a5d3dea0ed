import { Logger } from '@nestjs/common';

/** Milliseconds for which further errors of a connection stay unlogged: one that is away reports every attempt. */
const QUIET_TIME = 10_000;

/** Logs the errors of a connection, and not all of them. BullMQ's `error` event must have a listener: without one, it would end the process. */
export function throttledLog(what: string): (error: Error) => void {
  const logger = new Logger('BackgroundTasks');
  let quietUntil = 0;
  return (error) => {
    const now = performance.now();
    if (now < quietUntil) return;
    quietUntil = now + QUIET_TIME;
    logger.warn(
      `${what}: ${error.message || String('code' in error ? error.code : error.name)}; further errors are not logged for ${QUIET_TIME / 1_000} s`,
    );
  };
}
