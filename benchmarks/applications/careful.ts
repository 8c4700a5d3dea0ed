import { AsyncResource } from 'node:async_hooks';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { type CallHandler, type ExecutionContext, Injectable, Logger, type NestInterceptor, createParamDecorator } from '@nestjs/common';
import { type Observable, tap } from 'rxjs';

// The careful version by hand, for one application: the tasks run in order after the response, once, if the handler succeeded, in
// the context of the code that added them, and an error is logged. No bounds, no shutdown, no discarded, late or timed-out tasks.

export class CarefulTasks {
  readonly #tasks: (() => unknown)[] = [];

  add<Args extends unknown[]>(func: (...args: Args) => unknown, ...args: Args): void {
    this.#tasks.push(AsyncResource.bind(() => func(...args)));
  }

  async run(logger: Logger): Promise<void> {
    for (const task of this.#tasks) {
      try {
        await task();
      } catch (error) {
        logger.error(error);
      }
    }
  }
}

type CarefulRequest = IncomingMessage & { tasks?: CarefulTasks };

export function carefulTasksOf(request: CarefulRequest): CarefulTasks {
  return (request.tasks ??= new CarefulTasks());
}

export const Tasks = createParamDecorator((_: unknown, context: ExecutionContext) => carefulTasksOf(context.switchToHttp().getRequest()));

@Injectable()
export class CarefulInterceptor implements NestInterceptor {
  readonly #logger = new Logger('Tasks');

  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const http = context.switchToHttp();
    const tasks = carefulTasksOf(http.getRequest());
    const reply = http.getResponse<ServerResponse & { raw?: ServerResponse }>();
    let failed = false;
    let over = false;
    const onceOver = (): void => {
      if (over) return;
      over = true;
      if (!failed) void tasks.run(this.#logger);
    };
    (reply.raw ?? reply).once('finish', onceOver).once('close', onceOver);
    return next.handle().pipe(tap({ error: () => (failed = true) }));
  }
}
