// Sample 06: work for the CPU in a thread.
import { describe, expect, it } from '@jest/globals';
import { AppModule } from '../../sample/06-cpu-work/app.module.js';
import { createApp, platforms } from '../support/app.js';

/** It would take years. */
const WORK_OF_YEARS = '999999999999999';

describe.each(platforms)('sample/06-cpu-work on %s', (platform) => {
  it('computes after the response', async () => {
    const { http, runner } = await createApp(platform, AppModule);
    await http.post('/primes/below/1000').expect(202);
    await runner.onIdle();
    await http.get('/primes/below/1000').expect(200, { below: 1000, count: 168 });
  });

  it('answers other requests while it computes, and stops the thread when the task is given up', async () => {
    const { app, http, runner, logs } = await createApp(platform, AppModule);
    await http.post(`/primes/below/${WORK_OF_YEARS}`).expect(202);
    for (let i = 0; i < 20; i++) await http.get(`/primes/below/${WORK_OF_YEARS}`).expect(404);
    expect(runner.activeCount).toBe(1);
    await app.close();
    expect(logs.of('error')).toEqual([expect.stringContaining('was aborted: the application shuts down')]);
  });
});
