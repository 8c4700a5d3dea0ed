import type { BackgroundTasks, RunOn } from 'nestjs-background-tasks';

/** Adds one task for each outcome: two of the three are to run, one is to be discarded, and which ones tells the outcome. */
export function addOutcomeTasks(tasks: BackgroundTasks, run: (name: RunOn) => unknown): void {
  for (const runOn of ['success', 'failure', 'always'] satisfies RunOn[]) tasks.addTask({ name: runOn, runOn }, run, runOn);
}
