import type { Queue } from 'bullmq';

/** Removes a task from its queue. Returns false if it runs, has ended, or is not in the queue. */
export async function cancelQueued(queue: Queue, id: string): Promise<boolean> {
  const job = await queue.getJob(id);
  if (!job || !['waiting', 'prioritized', 'delayed'].includes(await job.getState())) return false;
  // 0 if a worker has taken it in the meantime.
  return (await queue.remove(id)) === 1;
}
