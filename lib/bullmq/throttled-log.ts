import { Logger } from '@nestjs/common';
import { messageOf } from '../task/describe-error.js';

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
    logger.warn(`${what}: ${messageOf(error)}; further errors are not logged for ${QUIET_TIME / 1_000} s`);
  };
}
