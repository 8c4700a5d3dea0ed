// Compiled by `npm run typecheck`, never run: what the types let through, and what they refuse.
import type { HttpException } from '@nestjs/common';
import {
  BackgroundTask,
  BackgroundTasks,
  BackgroundTasksError,
  BackgroundTasksModule,
  BackgroundTasksOverflowError,
  type BackgroundTasksRunner,
  type TaskState,
} from 'nestjs-background-tasks';

interface Mail {
  template: 'invitation' | 'welcome';
  variables: { names: string[] };
}

class User {
  readonly #name = 'Ann';
  constructor(readonly role: 'admin' | 'guest') {}
  name(): string {
    return this.#name;
  }
}

declare const tasks: BackgroundTasks;
declare function sendMail(to: string, subject?: string): Promise<void>;
declare function noArguments(): void;
declare function rest(count: number, ...names: string[]): void;
declare function literal(kind: 'created' | 'deleted', at: { x: number }): void;
declare function generic<T>(value: T): T;
declare function field<T, K extends keyof T>(value: T, key: K): T[K];
declare function sendTemplate(to: string, mail: Mail): Promise<void>;
declare function remove(ids: string[]): void;
declare function count(ids: readonly string[]): void;
declare function kinds(all: ('created' | 'deleted')[]): void;
declare function move(to: [x: number, axis: 'x' | 'y']): void;
declare function nested(rule: { when: { all: { op: 'is' | 'not'; range: [number, 'days' | 'hours'] }[] } }): void;
declare function event(value: { kind: 'mail'; to: string } | { kind: 'sms'; number: number }): void;
declare function overloaded(id: number): void;
declare function overloaded(kind: 'created' | 'deleted', id: number): void;
declare function options(value: { retry?: 'once' | 'never'; delay?: number }): void;
declare function save(user: User): void;
declare function subscribe(name: string, listener: (value: { id: number }) => void): void;
declare function ofDate(this: Date, text: string): void;
declare const ids: string[];
declare const fixedIds: readonly string[];
declare const user: User;
declare const mail: Mail;
declare const anything: unknown;
declare const maybe: string | undefined;

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
tasks.addTask({ delay: 60_000, priority: 1, attempts: 5, backoff: { type: 'fixed', delay: 10 }, flush: 'after-response' }, sendMail, 'a');
tasks.addTask({ deduplication: { id: (to: string) => to, ttl: 1_000 } }, sendMail, 'a');
// @ts-expect-error: a delay that is no number
tasks.addTask({ delay: '1 min' }, noArguments);
const progress: Promise<void> = added.updateProgress({ done: 1, of: [2, null] });
// @ts-expect-error: no JSON
void added.updateProgress({ at: new Date() });
export const stateOf = (runner: BackgroundTasksRunner): Promise<TaskState | undefined> => progress.then(() => runner.state(added.id));
tasks.addTask((to) => sendMail(to.trim()), 'a');
tasks.addTask({ name: 'mail' }, async (to, subject) => sendMail(to.trim(), subject.trim()), 'a', 'b');
new BackgroundTask((to) => sendMail(to.trim()), 'a');
new BackgroundTasks([new BackgroundTask(sendMail, 'a'), new BackgroundTask({ name: 'b' }, literal, 'deleted', { x: 2 })]);

// The parameters of a closure have the types of the arguments as they are written: what compiles as `sendTemplate(to, { … })` compiles
// here.
tasks.addTask((kind, at) => literal(kind, at), 'created', { x: 1 });
tasks.addTask((to, value) => sendTemplate(to, value), 'a', { template: 'invitation', variables: { names: ['b'] } });
tasks.addTask({ name: 'mail' }, (to, value) => sendTemplate(to, value), 'a', { template: 'welcome', variables: { names: [] } });
tasks.addTask(async (to, value) => sendTemplate(to, value), 'a', { ...mail, template: 'welcome' });
tasks.addTask(({ template, variables }) => sendTemplate('a', { template, variables }), {
  template: 'welcome',
  variables: { names: ['b'] },
});
new BackgroundTask((to, value) => sendTemplate(to, value), 'a', { template: 'invitation', variables: { names: ['b'] } });
tasks.addTask((value) => nested(value), { when: { all: [{ op: 'is', range: [1, 'days'] }] } });
tasks.addTask((value) => event(value), { kind: 'mail', to: 'a' });
tasks.addTask((value) => options(value), { retry: 'once' });
tasks.addTask((url, init) => fetch(url, init), 'https://example.com', { method: 'POST', cache: 'no-store' });
tasks.addTask((list) => remove(list), ['a', 'b']);
tasks.addTask((list) => remove(list), []);
tasks.addTask((list) => remove(list), ids);
tasks.addTask((list) => count(list), fixedIds);
tasks.addTask((list) => kinds(list), ['created']);
tasks.addTask((to) => move(to), [1, 'x']);
tasks.addTask((value) => generic(value), { a: 'b' });
tasks.addTask((value, key) => field(value, key), { a: 1, b: 2 }, 'a');
tasks.addTask((id) => overloaded(id), 1);
tasks.addTask((kind, id) => overloaded(kind, id), 'deleted', 1);
tasks.addTask((first, ...others) => rest(first, ...others), 1, 'a', 'b');
tasks.addTask((to: string, subject?: string) => sendMail(to, subject), 'a');
tasks.addTask((value) => save(value), user);
tasks.addTask((value) => save(value.user), { user, role: 'admin' });
tasks.addTask((value) => save(value), new User('guest'));
tasks.addTask(
  (name, listener) => subscribe(name, listener),
  'a',
  (value: { id: number }) => value.id,
);
tasks.addTask(
  (call) => call(),
  () => 1,
);
tasks.addTask((value) => value?.trim(), maybe);
tasks.addTask((value) => generic(value), anything);
// A closure that changes such a value says with which type.
tasks.addTask((list: string[]) => list.push('c'), ['a', 'b']);

// A function that declares its parameters decides on the types of the arguments.
tasks.addTask(sendTemplate, 'a', { template: 'invitation', variables: { names: ['b'] } });
tasks.addTask(nested, { when: { all: [{ op: 'is', range: [1, 'days'] }] } });
tasks.addTask(event, { kind: 'sms', number: 1 });
tasks.addTask(remove, ['a', 'b']);
tasks.addTask(count, fixedIds);
tasks.addTask(kinds, ['created']);
tasks.addTask(move, [1, 'x']);
tasks.addTask(field, { a: 1 }, 'a');
tasks.addTask(overloaded, 'created', 1);
tasks.addTask(save, user);
tasks.addTask(subscribe, 'a', (value) => value.id.toFixed());
// As a `@BackgroundTask()` method may: it has its own provider for its `this`.
tasks.addTask(ofDate, 'a');
tasks.addTask(ofDate.bind(new Date()), 'a');
tasks.addTask<[string]>((to) => sendMail(to), 'a');

export class Repository<Entity extends { id: string }> {
  save(_entity: Entity): void {}

  later(entity: Entity, entities: Entity[], key: keyof Entity): void {
    tasks.addTask((value) => this.save(value), entity);
    tasks.addTask({ name: 'save' }, (value) => this.save(value.entity), { entity, kind: 'created' });
    tasks.addTask((values) => values.forEach((value) => this.save(value)), entities);
    tasks.addTask((value, name) => field(value, name), entity, key);
  }
}

export function later<Args extends unknown[]>(func: (...args: Args) => void, ...args: Args): void {
  tasks.addTask(func, ...args);
  tasks.addTask({ name: 'later' }, func, ...args);
}

// @ts-expect-error: a wrong argument
tasks.addTask(sendMail, 1);
// @ts-expect-error: not one of the literals, in a closure
tasks.addTask((kind, at) => literal(kind, at), 'changed', { x: 1 });
// @ts-expect-error: not one of the literals, in an object
tasks.addTask(sendTemplate, 'a', { template: 'other', variables: { names: [] } });
// @ts-expect-error: not one of the literals, in an object, in a closure
tasks.addTask((value) => sendTemplate('a', value), { template: 'other', variables: { names: [] } });
// @ts-expect-error: a property that is missing
tasks.addTask(sendTemplate, 'a', { template: 'invitation' });
// @ts-expect-error: a misspelt property
tasks.addTask(options, { rety: 'once' });
// @ts-expect-error: a property too many
tasks.addTask(options, { retry: 'once', tries: 2 });
// @ts-expect-error: an array of something else
tasks.addTask(remove, [1]);
// @ts-expect-error: an array of something else, in a closure
tasks.addTask((list) => remove(list), [1]);
// @ts-expect-error: a read-only array for a function that may change it
tasks.addTask(remove, fixedIds);
// @ts-expect-error: a read-only array for a function that may change it, in a closure
tasks.addTask((list) => remove(list), fixedIds);
// @ts-expect-error: a tuple of something else
tasks.addTask(move, [1, 'z']);
// @ts-expect-error: no instance of the class
tasks.addTask((value) => save(value), { role: 'admin', name: () => 'Ann' });
// @ts-expect-error: it may be undefined
tasks.addTask((value) => value.trim(), maybe);
// @ts-expect-error: it may be anything
tasks.addTask((value) => sendMail(value), anything);
// @ts-expect-error: no overload has these
tasks.addTask((kind, id) => overloaded(kind, id), 'changed', 1);
// @ts-expect-error: a missing argument
tasks.addTask(sendMail);
// @ts-expect-error: an argument too many
tasks.addTask(sendMail, 'a', 'b', 'c');
// @ts-expect-error: a wrong argument behind options
tasks.addTask({ name: 'mail' }, sendMail, 1);
// @ts-expect-error: not one of the literals
tasks.addTask(literal, 'changed', { x: 1 });
// @ts-expect-error: an unknown option
tasks.addTask({ dely: 1 }, noArguments);
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
