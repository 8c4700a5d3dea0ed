// Compiled by `npm run typecheck`, never run: what the types let through, and what they refuse.
import type { HttpException } from '@nestjs/common';
import {
  BackgroundTask,
  BackgroundTasks,
  BackgroundTasksError,
  BackgroundTasksModule,
  BackgroundTasksOverflowError,
  type BackgroundTasksRunner,
} from 'nestjs-background-tasks';

declare const tasks: BackgroundTasks;
declare function sendMail(to: string, subject?: string): Promise<void>;
declare function noArguments(): void;
declare function rest(count: number, ...names: string[]): void;
declare function literal(kind: 'created' | 'deleted', at: { x: number }): void;
declare function generic<T>(value: T): T;

tasks.addTask(sendMail, 'a');
tasks.addTask(sendMail, 'a', 'b');
const added: BackgroundTask = tasks.addTask(noArguments);
const end: Promise<'completed' | 'failed' | 'discarded' | 'cancelled' | 'queued'> = added.ended;
const cancelled: boolean = added.cancel('a reason');
export const held = [added.id satisfies string, end, cancelled];
tasks.addTask(rest, 1, 'a', 'b');
tasks.addTask(literal, 'created', { x: 1 });
tasks.addTask(generic, 1);
tasks.addTask(async (id: number) => Promise.resolve(id), 1);
tasks.addTask({ name: 'mail', timeout: 5_000, runOn: 'always' }, sendMail, 'a');
tasks.addTask({}, noArguments);
tasks.addTask((to) => sendMail(to.trim()), 'a');
tasks.addTask({ name: 'mail' }, async (to, subject) => sendMail(to.trim(), subject.trim()), 'a', 'b');
new BackgroundTask((to) => sendMail(to.trim()), 'a');
new BackgroundTasks([new BackgroundTask(sendMail, 'a'), new BackgroundTask({ name: 'b' }, literal, 'deleted', { x: 2 })]);

// @ts-expect-error: a wrong argument
tasks.addTask(sendMail, 1);
// @ts-expect-error: a missing argument
tasks.addTask(sendMail);
// @ts-expect-error: an argument too many
tasks.addTask(sendMail, 'a', 'b', 'c');
// @ts-expect-error: a wrong argument behind options
tasks.addTask({ name: 'mail' }, sendMail, 1);
// @ts-expect-error: not one of the literals
tasks.addTask(literal, 'changed', { x: 1 });
// @ts-expect-error: an unknown option
tasks.addTask({ delay: 1 }, noArguments);
// @ts-expect-error: an unknown outcome
tasks.addTask({ runOn: 'later' }, noArguments);
// @ts-expect-error: a closure whose argument has another type
tasks.addTask((to) => sendMail(to), 1);
// @ts-expect-error: the function was called
tasks.addTask(sendMail('a'));
// @ts-expect-error: the function was called, and returned nothing
tasks.addTask(noArguments());
// @ts-expect-error: the list is read-only
tasks.tasks.push(new BackgroundTask(noArguments));
// @ts-expect-error: a wrong argument
new BackgroundTask(sendMail, 1);

export class Handler {
  handle(@BackgroundTasks() list: BackgroundTasks): void {
    list.addTask(noArguments);
  }
}

export class Tasks {
  @BackgroundTask()
  plain(): void {}
  @BackgroundTask('named', { attempts: 3 })
  named(): void {}
  @BackgroundTask({ attempts: 3 })
  unnamed(): void {}
  @BackgroundTask({ deduplication: { id: (customer: string, year: number) => `${customer} ${year}`, ttl: 1_000 } })
  report(_customer: string, _year: number): void {}
  // @ts-expect-error: no key
  @BackgroundTask({ deduplication: { ttl: 1_000 } })
  keyless(): void {}
}

export function handle(error: unknown): string | number | undefined {
  if (error instanceof BackgroundTasksOverflowError) {
    const status: HttpException = error;
    return error.maxPending + status.getStatus();
  }
  if (!(error instanceof BackgroundTasksError)) return undefined;
  return error instanceof BackgroundTasksOverflowError ? error.task : error.code;
}

declare const runner: BackgroundTasksRunner;

export async function job(): Promise<number> {
  await runner.within(() => undefined);
  // @ts-expect-error: a promise, and not a function that makes one
  await runner.within(sendMail('a'));
  return runner.within(async (list: BackgroundTasks) => {
    list.addTask(sendMail, 'a');
    return 1;
  });
}

BackgroundTasksModule.forRoot({ around: (task, next) => (task.name === 'mail' ? next() : undefined), carry: () => ({ tenant: 'acme' }) });
// @ts-expect-error: a misspelt extra
BackgroundTasksModule.forRootAsync({ useFactory: () => ({}), scop: 0 });
