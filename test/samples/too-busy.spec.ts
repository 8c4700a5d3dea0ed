// Sample 10: limits, and routes that answer 503 or do without.
import { describe, expect, it } from '@jest/globals';
import { AppModule } from '../../sample/10-too-busy/app.module.js';
import { ErrorTracker } from '../../sample/10-too-busy/error-tracker.js';
import { Thumbnails } from '../../sample/10-too-busy/thumbnails.js';
import { createApp, platforms } from '../support/app.js';
import { gate } from '../support/gate.js';

describe.each(platforms)('sample/10-too-busy on %s', (platform) => {
  it('takes one image at work and two that wait; then uploads are refused, and views do without', async () => {
    const { app, http, runner } = await createApp(platform, AppModule);
    const started = gate();
    const end = gate();
    const thumbnails = app.get(Thumbnails);
    thumbnails.make = async (image) => {
      started.open();
      await end.opened;
      thumbnails.made.push(image);
    };
    await http.post('/uploads/1').expect(202);
    await started.opened;
    for (const image of ['2', '3']) await http.post(`/uploads/${image}`).expect(202);
    await http.post('/uploads/4').expect(503).expect('Retry-After', '1');
    await http.post('/views/1').expect(201, { refreshed: false });
    end.open();
    await runner.onIdle();
    expect(thumbnails.made).toEqual(['1', '2', '3']);
    await http.post('/views/1').expect(201, { refreshed: true });
    await runner.onIdle();
    expect(thumbnails.made).toHaveLength(4);
  });

  it('reports an image that fails', async () => {
    const { app, http, runner } = await createApp(platform, AppModule);
    app.get(Thumbnails).make = async () => Promise.reject(new Error('This is not an image'));
    await http.post('/uploads/broken').expect(202);
    await runner.onIdle();
    expect(app.get(ErrorTracker).reports).toEqual(['thumbnail: Error: This is not an image']);
  });
});
