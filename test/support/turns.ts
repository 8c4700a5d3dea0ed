import { setImmediate } from 'node:timers/promises';

/** Lets the event loop turn a few times: whatever is not held up happens meanwhile. */
export async function turns(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await setImmediate();
}
