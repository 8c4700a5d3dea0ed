import { DeliverableTasks } from '../engine/deliverable-tasks.js';
import type { Task } from '../task/task.js';

/** The list of a unit of work that is no request: over when its function has settled. */
export class WorkTasks extends DeliverableTasks {
  override add(task: Task, isFollowing?: boolean): void {
    if (this.done) this.addLate(task, isFollowing);
    else super.add(task);
  }
}
