import type { TaskEnd } from './background-task.js';

export type TaskPhase = 'pending' | 'active' | 'sending' | TaskEnd;
type TaskEvent = 'start' | 'send' | 'queue' | 'complete' | 'fail' | 'discard' | 'cancel';

/** The states of a task, with the events of each state and the state that follows. Every change goes through this table. */
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

/** A state with references to the states that follow. V8 reads a property faster than it looks up a name in the table. */
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
