import type { TaskEnd } from './background-task.js';

export type TaskPhase = 'pending' | 'active' | 'sending' | TaskEnd;
type TaskEvent = 'start' | 'send' | 'queue' | 'complete' | 'fail' | 'discard' | 'cancel';

/** The states of a task: what may happen in each, and which state follows. Every change goes through this table. */
const TRANSITIONS: Readonly<Record<TaskPhase, Readonly<Partial<Record<TaskEvent, TaskPhase>>>>> = {
  pending: { start: 'active', send: 'sending', discard: 'discarded', cancel: 'cancelled' },
  active: { complete: 'completed', fail: 'failed', cancel: 'cancelled' },
  // On its way to an engine.
  sending: { queue: 'queued', discard: 'discarded' },
  // A task made by hand may be run again.
  completed: { start: 'active' },
  failed: { start: 'active' },
  cancelled: {},
  discarded: {},
  queued: {},
};

/** A state that holds the ones that follow. V8 reads its properties at once, where it would look up the names of the table each time. */
export class State {
  start: State | undefined;
  send: State | undefined;
  queue: State | undefined;
  complete: State | undefined;
  fail: State | undefined;
  discard: State | undefined;
  cancel: State | undefined;
  readonly name: TaskPhase;
  readonly end: TaskEnd | undefined;

  constructor(name: TaskPhase) {
    this.name = name;
    this.end = name === 'pending' || name === 'active' || name === 'sending' ? undefined : name;
  }
}

function linked(): Record<TaskPhase, State> {
  const names = Object.keys(TRANSITIONS) as TaskPhase[];
  const states = Object.fromEntries(names.map((name) => [name, new State(name)])) as Record<TaskPhase, State>;
  for (const name of names) {
    for (const [event, next] of Object.entries(TRANSITIONS[name])) states[name][event as TaskEvent] = states[next];
  }
  return states;
}

export const { pending: PENDING } = linked();
