import { Worker } from 'bullmq';
import { BackgroundTasksError } from '../task/errors.js';

/** The first BullMQ whose worker can be told to stop its jobs. */
const OLDEST = '5.64';

/** @throws BackgroundTasksError `MISSING_PACKAGE` if BullMQ is too old. */
export function assertBullmq(): void {
  if ('cancelAllJobs' in Worker.prototype) return;
  throw new BackgroundTasksError(
    'MISSING_PACKAGE',
    `bullmqEngine() needs BullMQ ${OLDEST} or later, or 6, and finds an older one: npm install bullmq@latest`,
  );
}

/** The error for a driver that is not installed, which no waiting makes good; any other as it is. */
export function missingDriver(error: unknown): unknown {
  const [, driver] = (error instanceof Error && /could not load the optional '(\w+)' package/.exec(error.message)) || [];
  if (driver === undefined) return error;
  return new BackgroundTasksError(
    'MISSING_PACKAGE',
    `BullMQ reaches its server with the package ${driver}, and cannot load it: npm install ${driver}`,
  );
}
