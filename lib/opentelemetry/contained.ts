import { diag } from '@opentelemetry/api';

/** The name of the instrumentation scope. */
export const SCOPE = 'nestjs-background-tasks';

const log = diag.createComponentLogger({ namespace: SCOPE });

/** Has OpenTelemetry do something. That a processor, sampler or propagator throws is told where it tells its own errors; tasks go on. */
export function contained<Result>(work: () => Result): Result | undefined {
  try {
    return work();
  } catch (error) {
    try {
      log.error('OpenTelemetry failed, and the background task goes on without it', error);
    } catch {
      // Nor does a logger that throws stop a task.
    }
    return undefined;
  }
}
