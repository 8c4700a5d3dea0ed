import { setTimeout as wait } from 'node:timers/promises';
import type { TaskState } from '../task/background-task.js';
import { runOutside } from '../task/current-task.js';
import { countedNames, messageOf } from '../task/describe.js';
import type { TaskLog } from '../task/log.js';
import type { Task } from '../task/task.js';
import type { EngineEntry } from './engine.js';
import { namedCallOf } from './named-call.js';
import type { BackgroundTasksOutbox, OutboxClient } from './outbox.js';
import type { Sender } from './sender.js';

/** The pause between two sweeps, in ms: the usual one, and the longest one while the engine or the database is away. */
const [SWEEP_MS, LONGEST_PAUSE_MS] = [2_000, 10_000];
/** How many entries a sweep takes at a time. */
const MOST_ENTRIES = 200;
/** How many entries the engine may refuse, one after the other, before a sweep ends. */
const MOST_REFUSALS = 5;
/** How often the engine refuses an entry, while it takes others, before the entry is set aside. */
const STRIKES = 3;
/** Time that the database is given to answer, in ms: on a connection that is dead, no driver does. */
const ANSWER_MS = 10_000;
/** The pause between two looks for done tasks to forget, in ms. */
const FORGET_MS = 3_600_000;

/** Hands the tasks of an outbox over to the engine: after their COMMIT, and in sweeps those that a process which died, or an engine that was away, has left. */
export class Relay {
  readonly #outbox: BackgroundTasksOutbox;
  readonly #sender: Sender;
  readonly #log: TaskLog;
  readonly #removals: Removals;
  /** Fires when the sweeps are to end. */
  readonly #closing = new AbortController();
  /** True once nothing is handed over any more. */
  #isStopped = false;
  /** True while only sweeps try the engine, as it has taken nothing for a while. */
  #isAway = false;
  /** The warnings that hold, until the opposite is logged. */
  readonly #warned = new Set<'engine' | 'outbox'>();
  /** How often the engine has refused an entry, and how many it had taken by then. */
  readonly #strikes = new Map<string, { count: number; taken: number }>();
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

  /** Begins to sweep. Rejects if the outbox cannot be used. */
  async start(): Promise<void> {
    await this.#outbox.open();
    this.#sweeping = this.#sweepUntilClosed();
  }

  /** Saves tasks in the transaction of a client. Rejects if they cannot be saved, or with the error of the option `carry`. */
  async save(tasks: readonly Task[], client: OutboxClient): Promise<void> {
    for (const task of tasks) await namedCallOf(task)?.carrying;
    await this.#outbox.save(client, entriesOf(tasks));
  }

  /** Hands over tasks whose transaction was committed. Those that the engine does not take in time are left to sweeps. Never rejects. */
  handOver(tasks: readonly Task[]): Promise<void> {
    // The calls are for the tasks of other requests as well, and part of no transaction.
    return runOutside(() => this.#handOver(tasks));
  }

  async #handOver(tasks: readonly Task[]): Promise<void> {
    const ids = entriesOf(tasks).map(({ id }) => id);
    const { taken } = this.#sender;
    try {
      if (this.#isAway || this.#isStopped) return this.#leave(tasks);
      await this.#sender.enqueue(tasks);
      this.#took();
      await this.#removals.add(ids);
    } catch (error) {
      this.#leave(tasks);
      // If it took others in the meantime, it is not away.
      if (this.#sender.taken === taken) this.#tookNothing(error);
    }
  }

  /** Leaves tasks to sweeps: during a shutdown, to those of another process. */
  #leave(tasks: readonly Task[]): void {
    if (this.#closing.signal.aborted) for (const { name } of tasks) this.#left.set(name, (this.#left.get(name) ?? 0) + 1);
  }

  /** The state of a task that is in the outbox. */
  async find(id: string): Promise<TaskState | undefined> {
    const entry = await inTime(this.#outbox.find(id));
    return entry && { id, name: entry.name, state: 'waiting', attempt: 0 };
  }

  /** The reason why the outbox cannot be used, if there is one. Never rejects. */
  async problem(): Promise<string | undefined> {
    try {
      await inTime(this.#outbox.ping());
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

  /** Hands nothing over from now on. */
  stop(): void {
    this.#isStopped = true;
  }

  /** Says which tasks are left to other processes. */
  sayWhatIsLeft(): void {
    if (this.#left.size === 0) return;
    this.#log.warn(
      `The engine does not have these tasks yet, which are committed and stay in the outbox: ${countedNames(this.#left)}. Another process, or the ` +
        'next start of this one, hands them over',
    );
    this.#left.clear();
  }

  async #sweepUntilClosed(): Promise<void> {
    const { signal } = this.#closing;
    for (let pause = 0; !signal.aborted;) {
      // Not in step with other processes.
      await wait(pause * (0.75 + Math.random() / 2), undefined, { ref: false, signal }).catch(() => undefined);
      pause = Math.min(pause * 2 || SWEEP_MS, LONGEST_PAUSE_MS);
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

  /** Hands over all that no process has a lease of. Returns false if the engine takes nothing. */
  async #sweep(): Promise<boolean> {
    for (;;) {
      const entries = this.#closing.signal.aborted ? [] : await inTime(this.#outbox.lease(MOST_ENTRIES));
      if (entries.length > 0 && !(await this.#send(entries)) && !(await this.#sendOneByOne(entries))) return false;
      this.#isAway = false;
      if (entries.length < MOST_ENTRIES) return true;
    }
  }

  /** Sends entries of which the engine refuses some. Begins anywhere, so that those in front do not hide the others. */
  async #sendOneByOne(entries: readonly EngineEntry[]): Promise<boolean> {
    const start = Math.floor(Math.random() * entries.length);
    const refused = new Map<EngineEntry, unknown>();
    let isTaken = false;
    for (const entry of [...entries.slice(start), ...entries.slice(0, start)]) {
      if (this.#closing.signal.aborted || (!isTaken && refused.size === MOST_REFUSALS)) break;
      if (await this.#send([entry], (error) => refused.set(entry, error))) isTaken = true;
    }
    for (const [entry, error] of refused) await this.#strike(entry, error);
    if (!isTaken) this.#tookNothing([...refused.values()].at(-1));
    return isTaken;
  }

  async #send(entries: readonly EngineEntry[], onRefusal?: (error: unknown) => void): Promise<boolean> {
    try {
      await this.#sender.enqueueEntries(entries, this.#closing.signal);
    } catch (error) {
      onRefusal?.(error);
      return false;
    }
    this.#took();
    for (const { id } of entries) this.#strikes.delete(id);
    await this.#removals.add(entries.map(({ id }) => id));
    return true;
  }

  /** Counts a refusal. One that comes while the engine takes other entries is the fault of the entry. */
  async #strike(entry: EngineEntry, error: unknown): Promise<void> {
    const { count, taken } = this.#strikes.get(entry.id) ?? { count: 0, taken: -1 };
    if (this.#sender.taken === taken) return;
    if (count + 1 < STRIKES) return void this.#strikes.set(entry.id, { count: count + 1, taken: this.#sender.taken });
    this.#strikes.delete(entry.id);
    await inTime(this.#outbox.setAside([entry.id], messageOf(error)));
    this.#log.setAside(entry.name, entry.id, error);
  }

  async #forgetDone(): Promise<void> {
    const now = performance.now();
    if (now - this.#forgottenAt < FORGET_MS) return;
    this.#forgottenAt = now;
    await inTime(this.#outbox.forgetDone());
  }

  #took(): void {
    this.#isAway = false;
    if (this.#warned.delete('engine')) this.#log.say('The engine takes tasks again, and gets those in the outbox');
  }

  #tookNothing(error: unknown): void {
    this.#isAway = true;
    if (this.#closing.signal.aborted || this.#warned.has('engine')) return;
    this.#warned.add('engine');
    this.#log.warn(`The engine takes no tasks, which stay in the outbox until it does: ${messageOf(error)}`);
  }

  #warnOfOutbox(error: unknown): void {
    if (this.#warned.has('outbox')) return;
    this.#warned.add('outbox');
    this.#log.warn(`The outbox cannot be used, and is tried again: ${messageOf(error)}`);
  }
}

async function inTime<Result>(answer: Promise<Result>): Promise<Result> {
  const timeout = new AbortController();
  const silence = wait(ANSWER_MS, undefined, { ref: false, signal: timeout.signal }).then(() => {
    throw new Error(`the database did not answer within ${ANSWER_MS} ms`);
  });
  silence.catch(() => undefined);
  try {
    return await Promise.race([answer, silence]);
  } finally {
    timeout.abort();
  }
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

  /** Resolves when the entries are removed, with all that were added meanwhile; those of a call that failed are kept for the next one. */
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
        await inTime(this.#outbox.remove(ids));
      } catch (error) {
        this.#ids = ids.concat(this.#ids);
        return this.#onError(error);
      }
    }
  }
}
