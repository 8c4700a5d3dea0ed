import { tracingChannel } from 'node:diagnostics_channel';
import { Injectable, Logger, type OnApplicationShutdown, type OnModuleInit } from '@nestjs/common';
import type { BackgroundTaskTraceMessage } from 'nestjs-background-tasks';

const tasks = tracingChannel<unknown, BackgroundTaskTraceMessage>('nestjs-background-tasks:task');

/** Warns about each slow task, whether it waits or blocks the process. */
@Injectable()
export class SlowTasks implements OnModuleInit, OnApplicationShutdown {
  /** Milliseconds. */
  static threshold = 1_000;

  private readonly logger = new Logger(SlowTasks.name);
  private readonly startedAt = new WeakMap<BackgroundTaskTraceMessage, number>();
  private readonly subscribers = {
    start: (message: BackgroundTaskTraceMessage) => void this.startedAt.set(message, performance.now()),
    end: (message: BackgroundTaskTraceMessage) => this.check(message),
    error: () => {},
    asyncStart: () => {},
    asyncEnd: (message: BackgroundTaskTraceMessage) => this.check(message),
  };

  onModuleInit(): void {
    tasks.subscribe(this.subscribers);
  }

  onApplicationShutdown(): void {
    tasks.unsubscribe(this.subscribers);
  }

  private check(message: BackgroundTaskTraceMessage): void {
    const took = performance.now() - (this.startedAt.get(message) ?? NaN);
    if (took < SlowTasks.threshold || !this.startedAt.delete(message)) return;
    this.logger.warn(`${message.task.name} took ${Math.round(took)} ms`);
  }
}
