import { setTimeout as wait } from 'node:timers/promises';
import type { TaskState } from '../task/background-task.js';
import { runOutside } from '../task/current-task.js';
import { countedNames, messageOf } from '../task/describe.js';
import type { TaskLog } from '../task/log.js';
import type { Task } from '../task/task.js';
import type { EngineEntry } from './engine.js';
import { namedCallOf } from './named-call.js';
import type { BackgroundTasksOutbox, OutboxClient } from './outbox.js';
import { type Sender, queueOf } from './sender.js';

/** The usual pause between two sweeps, and the longest one while the engine or the database is down. */
const [SWEEP_MS, MAX_PAUSE_MS] = [2_000, 10_000];
/** The number of entries that a sweep leases at a time. */
const MAX_ENTRIES = 200;
/** The number of entries of a queue in a row that the engine may refuse before a sweep leaves the queue. */
const MAX_REFUSALS = 5;
/** The number of times that a sweep leases further entries after a queue has refused some, to find those of other queues. */
const MAX_PAGES = 25;
/** The number of times that the engine may refuse an entry, while it accepts others, before the entry is set aside. */
const STRIKES = 3;
/** The pause between two deletions of old marks of done tasks. */
const FORGET_MS = 3_600_000;

/** Sends the tasks of an outbox to the engine after their COMMIT. Sweeps send those left behind by a dead process or an engine outage. */
export class Relay {
  readonly #outbox: BackgroundTasksOutbox;
  readonly #sender: Sender;
  readonly #log: TaskLog;
  readonly #removals: Removals;
  /** Fires when the sweeps have to end. */
  readonly #closing = new AbortController();
  /** True once nothing is sent any more. */
  #isStopped = false;
  /** The queues that only sweeps try, as the engine has accepted nothing for them lately. */
  readonly #away = new Set<string | undefined>();
  /** The warnings that are in effect, until the opposite is logged. */
  readonly #warned = new Set<'engine' | 'outbox'>();
  /** The number of times that the engine has refused an entry, and the number of tasks that it had accepted for the queue by then. */
  readonly #strikes = new Map<string, { count: number; accepted: number }>();
  #opening: Promise<void> | undefined;
  #sweeping: Promise<void> | undefined;
  #forgottenAt = -Infinity;
  /** The tasks that a shutdown leaves to other processes. */
  readonly #left = new Map<string, number>();

  constructor(outbox: BackgroundTasksOutbox, sender: Sender, log: TaskLog) {
    this.#outbox = outbox;
    this.#sender = sender;
    this.#log = log;
    this.#removals = new Removals(outbox, (error) => this.#warnOfOutbox(error));
  }

  /** Starts to sweep. Rejects if the outbox cannot be used. */
  async start(): Promise<void> {
    await this.#open();
    this.#sweeping = this.#sweepUntilClosed();
  }

  /** Opens the outbox: when the application starts, or before, for a transaction in an `onApplicationBootstrap()`. */
  #open(): Promise<void> {
    return (this.#opening ??= this.#outbox.open());
  }

  /** Saves tasks in the transaction of a client. Rejects if they cannot be saved, or with the error of the option `carry`. */
  async save(tasks: readonly Task[], client: OutboxClient): Promise<void> {
    await this.#open();
    await this.#sender.carried(tasks);
    await this.#outbox.save(client, entriesOf(tasks));
  }

  /** Sends tasks whose transaction was committed. Those that the engine does not accept in time are left to sweeps. Never rejects. */
  enqueue(tasks: readonly Task[]): Promise<void> {
    // One call to the engine may also carry tasks of other requests, so it must not run in the async context of this transaction.
    return runOutside(() => this.#enqueue(tasks));
  }

  async #enqueue(tasks: readonly Task[]): Promise<void> {
    await Promise.all([...byQueue(tasks, queueOf)].map(([queue, its]) => this.#enqueueTo(queue, its)));
  }

  async #enqueueTo(queue: string | undefined, tasks: readonly Task[]): Promise<void> {
    const ids = entriesOf(tasks).map(({ id }) => id);
    const accepted = this.#sender.acceptedFor(queue);
    try {
      if (this.#away.has(queue) || this.#isStopped) return this.#leave(tasks);
      await this.#sender.enqueue(tasks);
      this.#accepted(queue);
      await this.#removals.add(ids);
    } catch (error) {
      this.#leave(tasks);
      // If it accepted others in the meantime, it is not down.
      if (this.#sender.acceptedFor(queue) === accepted) this.#acceptedNothing(queue, error);
    }
  }

  /** Leaves tasks to sweeps; during a shutdown, to those of another process. */
  #leave(tasks: readonly Task[]): void {
    if (this.#closing.signal.aborted) for (const { name } of tasks) this.#left.set(name, (this.#left.get(name) ?? 0) + 1);
  }

  /** The state of a task that is in the outbox. */
  async find(id: string): Promise<TaskState | undefined> {
    const entry = await this.#outbox.find(id);
    return entry && { id, name: entry.name, state: 'waiting', attempt: 1 };
  }

  /** The reason why the outbox cannot be used, if any. Never rejects. */
  async problem(): Promise<string | undefined> {
    try {
      await this.#outbox.ping();
      return undefined;
    } catch (error) {
      return messageOf(error);
    }
  }

  /** Begins the shutdown: ends the sweeps. Never rejects. */
  stopSweeping(): Promise<void> {
    this.#closing.abort();
    return this.#sweeping ?? Promise.resolve();
  }

  /** Sends nothing from now on. */
  stop(): void {
    this.#isStopped = true;
  }

  /** Logs the tasks that are left to other processes. */
  logLeftTasks(): void {
    if (this.#left.size === 0) return;
    this.#log.warn(
      `The engine does not have these committed tasks yet; they stay in the outbox: ${countedNames(this.#left)}. Another process, or the ` +
        'next start of this one, sends them',
    );
    this.#left.clear();
  }

  async #sweepUntilClosed(): Promise<void> {
    const { signal } = this.#closing;
    for (let pause = 0; !signal.aborted;) {
      // Random, to be out of step with other processes.
      await wait(pause * (0.75 + Math.random() / 2), undefined, { ref: false, signal }).catch(() => undefined);
      pause = Math.min(pause * 2 || SWEEP_MS, MAX_PAUSE_MS);
      try {
        await this.#removals.add([]);
        if (await this.#sweep()) pause = SWEEP_MS;
        await this.#forgetDone();
        if (this.#warned.delete('outbox')) this.#log.say('The outbox can be used again');
      } catch (error) {
        if (!signal.aborted) this.#warnOfOutbox(error);
      }
    }
  }

  /** Sends all entries without a lease. Returns false if the engine refuses all entries of a queue. */
  async #sweep(): Promise<boolean> {
    const refusing = new Set<string | undefined>();
    for (let pages = 0; ;) {
      const entries = this.#closing.signal.aborted ? [] : await this.#outbox.lease(MAX_ENTRIES);
      for (const [queue, its] of byQueue(entries, (entry) => entry.queue)) {
        if (!refusing.has(queue) && !(await this.#send(queue, its)) && !(await this.#sendOneByOne(queue, its))) refusing.add(queue);
      }
      if (entries.length < MAX_ENTRIES) break;
      // Entries of other queues may follow. Those of this one are leased, and are not found again in this sweep.
      if (refusing.size > 0 && (!this.#sender.hasSeveralQueues || ++pages === MAX_PAGES)) break;
    }
    // Queues without entries may be tried again.
    for (const queue of this.#away) if (!refusing.has(queue)) this.#away.delete(queue);
    return refusing.size === 0;
  }

  /**
   * Sends entries one by one, as the engine refuses some of them. Starts at a random entry, so that the first ones do not block the others.
   */
  async #sendOneByOne(queue: string | undefined, entries: readonly EngineEntry[]): Promise<boolean> {
    const start = Math.floor(Math.random() * entries.length);
    const refused = new Map<EngineEntry, unknown>();
    let isAccepted = false;
    for (const entry of [...entries.slice(start), ...entries.slice(0, start)]) {
      if (this.#closing.signal.aborted || (!isAccepted && refused.size === MAX_REFUSALS)) break;
      if (await this.#send(queue, [entry], (error) => refused.set(entry, error))) isAccepted = true;
    }
    for (const [entry, error] of refused) await this.#strike(entry, error);
    if (!isAccepted) this.#acceptedNothing(queue, [...refused.values()].at(-1));
    return isAccepted;
  }

  async #send(queue: string | undefined, entries: readonly EngineEntry[], onRefusal?: (error: unknown) => void): Promise<boolean> {
    try {
      await this.#sender.enqueueEntries(entries, this.#closing.signal);
    } catch (error) {
      // The shutdown has ended the call, so this is not the engine's answer.
      if (!this.#closing.signal.aborted) onRefusal?.(error);
      return false;
    }
    this.#accepted(queue);
    for (const { id } of entries) this.#strikes.delete(id);
    await this.#removals.add(entries.map(({ id }) => id));
    return true;
  }

  /** Counts a refusal. If the engine accepts other entries for the queue meanwhile, the entry itself is at fault. */
  async #strike(entry: EngineEntry, error: unknown): Promise<void> {
    const { count, accepted } = this.#strikes.get(entry.id) ?? { count: 0, accepted: -1 };
    const acceptedNow = this.#sender.acceptedFor(entry.queue);
    if (acceptedNow === accepted) return;
    if (count + 1 < STRIKES) return void this.#strikes.set(entry.id, { count: count + 1, accepted: acceptedNow });
    this.#strikes.delete(entry.id);
    await this.#outbox.setAside([entry.id], messageOf(error));
    this.#log.setAside(entry.name, entry.id, error);
  }

  async #forgetDone(): Promise<void> {
    const now = performance.now();
    if (now - this.#forgottenAt < FORGET_MS) return;
    this.#forgottenAt = now;
    await this.#outbox.forgetDone();
  }

  #accepted(queue: string | undefined): void {
    this.#away.delete(queue);
    if (this.#away.size === 0 && this.#warned.delete('engine'))
      this.#log.say('The engine accepts tasks again, and gets those in the outbox');
  }

  #acceptedNothing(queue: string | undefined, error: unknown): void {
    this.#away.add(queue);
    if (this.#closing.signal.aborted || this.#warned.has('engine')) return;
    this.#warned.add('engine');
    this.#log.warn(`The engine accepts no tasks; they stay in the outbox until it does: ${messageOf(error)}`);
  }

  #warnOfOutbox(error: unknown): void {
    if (this.#warned.has('outbox')) return;
    this.#warned.add('outbox');
    this.#log.warn(`The outbox cannot be used, and is retried: ${messageOf(error)}`);
  }
}

/** Groups tasks or entries by their queues, which may refuse tasks independently of each other. */
function byQueue<Item>(items: readonly Item[], queueOfItem: (item: Item) => string | undefined): Map<string | undefined, Item[]> {
  const groups = new Map<string | undefined, Item[]>();
  for (const item of items) {
    const queue = queueOfItem(item);
    const group = groups.get(queue);
    if (group) group.push(item);
    else groups.set(queue, [item]);
  }
  return groups;
}

function entriesOf(tasks: readonly Task[]): EngineEntry[] {
  return tasks.map((task) => namedCallOf(task)?.entry).filter((entry) => entry !== undefined);
}

/** Removes entries from an outbox. While one call is in flight, further ones are collected for the next. */
class Removals {
  readonly #outbox: BackgroundTasksOutbox;
  readonly #onError: (error: unknown) => void;
  #ids: string[] = [];
  #removing: Promise<void> | undefined;

  constructor(outbox: BackgroundTasksOutbox, onError: (error: unknown) => void) {
    this.#outbox = outbox;
    this.#onError = onError;
  }

  /** Resolves when the entries, and those added meanwhile, are removed. If a call fails, its entries are kept for the next one. */
  add(ids: readonly string[]): Promise<void> {
    this.#ids = this.#ids.concat(ids);
    this.#removing ??= this.#removeAll().finally(() => (this.#removing = undefined));
    return this.#removing;
  }

  async #removeAll(): Promise<void> {
    while (this.#ids.length > 0) {
      const ids = this.#ids;
      this.#ids = [];
      try {
        await this.#outbox.remove(ids);
      } catch (error) {
        this.#ids = ids.concat(this.#ids);
        return this.#onError(error);
      }
    }
  }
}
