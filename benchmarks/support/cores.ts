import { spawnSync } from 'node:child_process';
import { availableParallelism } from 'node:os';

/** True if processes can be pinned to cores: there are two, and `taskset`, as on Linux. */
export const canPin = availableParallelism() > 1 && spawnSync('taskset', ['--version']).status === 0;

/** Keeps a process, with all of its threads, on one core, so that it starves none on another. */
export function pin(pid: number | undefined, core: number): void {
  if (canPin && pid !== undefined) spawnSync('taskset', ['--all-tasks', '--cpu-list', '--pid', String(core), String(pid)]);
}
