import { type BullmqEngineOptions, bullmqEngine } from 'nestjs-background-tasks/bullmq';

const minute = 60_000;

export function engine(server: Pick<BullmqEngineOptions, 'connection' | 'backend'>) {
  return bullmqEngine({
    ...server,
    worker: { concurrency: 20 },
    queues: {
      thumbnails: { concurrency: 2 },
      // Tasks of this queue are added here, and run in another process.
      reports: false,
    },
    keep: { completed: 5 * minute, failed: 24 * 60 * minute },
  });
}
