// Sample 16: the recipes of docs/recipes.md.
import { describe, expect, it } from '@jest/globals';
import { AppModule } from '../../sample/16-recipes/app.module.js';
import { Work } from '../../sample/16-recipes/work.js';
import { createApp, platforms } from '../support/app.js';
import { type Gate, gate } from '../support/gate.js';
import { Recorder } from '../support/recorder.js';

/** Work that is done when the test says so, or stopped by its signal. */
class GatedWork extends Work {
  readonly begun = new Recorder<string>();
  readonly stopped: string[] = [];
  #gate: Gate = gate();

  finishAll(): void {
    this.#gate.open();
    this.#gate = gate();
  }

  override do(what: string, signal?: AbortSignal): Promise<void> {
    this.begun.add(what);
    return new Promise((resolve, reject) => {
      void this.#gate.opened.then(resolve);
      signal?.addEventListener('abort', () => {
        this.stopped.push(what);
        reject(signal.reason);
      });
    });
  }
}

describe.each(platforms)('sample/16-recipes on %s', (platform) => {
  async function createSample() {
    const work = new GatedWork();
    const sample = await createApp(platform, AppModule, { build: (builder) => builder.overrideProvider(Work).useValue(work) });
    return { ...sample, runner: sample.runner, work };
  }

  it('answers with an id, tells the state, and lets another request wait for the end', async () => {
    const { http, runner, work } = await createSample();
    const { body } = await http.post('/reports').expect(202);
    await work.begun.atLeast(1);
    await http.get(`/reports/${body.id}`).expect(200, { state: 'running' });
    const end = http.get(`/reports/${body.id}/end`).then((response) => response);
    await http.get('/reports/none/end').expect(404);
    work.finishAll();
    expect((await end).body).toEqual({ state: 'completed' });
    await runner.onIdle();
    await http.get(`/reports/${body.id}`).expect(200, { state: 'completed' });
    await http.get(`/reports/${body.id}/end`).expect(200, { state: 'completed' });
    await http.get('/reports/none').expect(404);
  });

  it('cancels an export, and says so', async () => {
    const { http, work } = await createSample();
    const { body } = await http.post('/reports').expect(202);
    await work.begun.atLeast(1);
    await http.delete(`/reports/${body.id}`).expect(204);
    expect(work.stopped).toEqual(['report']);
    await http.get(`/reports/${body.id}`).expect(200, { state: 'cancelled' });
    await http.delete(`/reports/${body.id}`).expect(404);
  });

  it('limits the exports of each user, and counts what has ended however it ended', async () => {
    const { http, runner, work } = await createSample();
    const ask = (user: string) => http.post(`/users/${user}/exports`);
    const { body: first } = await ask('ann').expect(202);
    await ask('ann').expect(202);
    await ask('ann').expect(429);
    await ask('bob').expect(202);
    runner.find(first.id)!.cancel();
    await ask('ann').expect(202);
    await ask('ann').expect(429);
    work.finishAll();
    await runner.onIdle();
    await ask('ann').expect(202);
    await work.begun.atLeast(5);
    work.finishAll();
    await runner.onIdle();
  });

  it('makes an error that a task returns its failure', async () => {
    const { http, runner, logs } = await createSample();
    await http.post('/invoices/7/prints').expect(202);
    await runner.onIdle();
    expect(logs.of('error')).toEqual(['Background task "print" failed: no paper for 7']);
  });

  it('does several things at once in one task', async () => {
    const { http, runner, work } = await createSample();
    await http
      .post('/links')
      .send({ links: ['a', 'b', 'c'] })
      .expect(202);
    expect(await work.begun.atLeast(3)).toEqual(['a', 'b', 'c']);
    expect(runner.activeCount).toBe(1);
    work.finishAll();
    await runner.onIdle();
  });
});
