// Guarantee 8: a shutdown keeps its deadline with very many tasks, and reports each of them.
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { describe, expect, it } from '@jest/globals';
import { Controller, Module, Post } from '@nestjs/common';
import { type BackgroundTask, BackgroundTasks, BackgroundTasksModule, BackgroundTasksShutdownError } from 'nestjs-background-tasks';
import { createApp, platforms } from '../support/app.js';

const DISCARDS = 'tracing:nestjs-background-tasks:task:discard';

describe.each(platforms)('a shutdown with many tasks on %s', (platform) => {
  async function serve(counts: Record<string, number>, shutdownTimeout: number) {
    const reported = new Map<string, number>();
    let last: BackgroundTask | undefined;

    @Controller()
    class ManyController {
      @Post()
      post(@BackgroundTasks() tasks: BackgroundTasks) {
        tasks.addTask({ name: 'endless' }, () => new Promise(() => {}));
        for (const [name, count] of Object.entries(counts)) {
          for (let n = 0; n < count; n++) last = tasks.addTask({ name }, () => {});
        }
      }
    }

    @Module({
      imports: [
        BackgroundTasksModule.forRoot({
          shutdownTimeout,
          onError(error, { name }) {
            if (!(error instanceof BackgroundTasksShutdownError)) return;
            reported.set(name, (reported.get(name) ?? 0) + 1);
          },
        }),
      ],
      controllers: [ManyController],
    })
    class ManyModule {}

    const app = await createApp(platform, ManyModule);
    await app.http.post('/').expect(201);
    return { ...app, runner: app.runner, reported, last: last! };
  }

  it('keeps its deadline and the event loop alive, and reports each task to everybody', async () => {
    const { app, runner, logs, reported, last } = await serve({ mail: 60_000, audit: 40_000 }, 100);
    expect(runner.pendingCount).toBe(100_000);
    let discards = 0;
    const count = (): void => void (discards += 1);
    subscribe(DISCARDS, count);
    const told = (): number => discards + [...reported.values()].reduce((sum, of) => sum + of, 0);
    const mostInOneTurn = watchTurns(told);
    const start = performance.now();
    await app.close();
    const took = performance.now() - start;
    await runner.onIdle();
    const most = mostInOneTurn();
    unsubscribe(DISCARDS, count);

    // The deadline, a second for the tasks to end, and the rest is a busy machine's.
    expect(took).toBeLessThan(100 + 1_000 + 5_000);
    // A twentieth of all there is to tell. It would take a task in half a microsecond to have more in a slice.
    expect(most).toBeLessThan(10_000);
    expect(told()).toBe(200_001);
    expect(Object.fromEntries(reported)).toEqual({ endless: 1, mail: 60_000, audit: 40_000 });
    expect(discards).toBe(100_000);
    expect(await last.ended).toBe('discarded');
    expect(logs.lines.map(({ message }) => message)).toEqual([
      'Waiting for 100001 background tasks to end, for 100 ms at most: "endless", "mail"',
      'Background task "endless" was aborted: the application shuts down, and its shutdownTimeout of 100 ms is over',
      '100000 background tasks never started: the application shuts down, and its shutdownTimeout of 100 ms is over: "mail" (60000), "audit" (40000)',
    ]);
    expect(runner).toMatchObject({ activeCount: 0, pendingCount: 0 });
  });

  it('names the most frequent, and counts the rest', async () => {
    const counts = Object.fromEntries(Array.from({ length: 30 }, (_, n) => [`task ${n}`, 31 - n]));
    const { app, logs } = await serve(counts, 0);
    await app.close();
    const line = logs.lines.at(-1);
    expect(line!.message).toMatch(/^495 background tasks never started: .*: "task 0" \(31\), .*"task 9" \(22\), and 20 other names$/);
    expect(logs.of('error')).toHaveLength(2);
  });
});

/**
 * Returns a function that returns by how much a count rose in one turn of the event loop at most. What a turn takes depends on the machine,
 * on what else it does, and on when garbage is collected; how much is done in it does not, but for getting less.
 */
function watchTurns(count: () => number): () => number {
  let most = 0;
  let before = count();
  let next = setImmediate(function turn() {
    const now = count();
    most = Math.max(most, now - before);
    before = now;
    next = setImmediate(turn);
  });
  return () => {
    clearImmediate(next);
    return Math.max(most, count() - before);
  };
}
