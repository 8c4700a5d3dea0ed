import type { TaskEnd } from './background-task.js';

export type TaskPhase = 'pending' | 'active' | 'sending' | TaskEnd;
export type TaskEvent = 'start' | 'send' | 'queue' | 'complete' | 'fail' | 'discard' | 'cancel';

/** The states of a task: what may happen in each, and which state follows. Every change goes through this table. */
export const TRANSITIONS: Readonly<Record<TaskPhase, Readonly<Partial<Record<TaskEvent, TaskPhase>>>>> = {
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

export function isEnd(state: TaskPhase): state is TaskEnd {
  return state !== 'pending' && state !== 'active' && state !== 'sending';
}
