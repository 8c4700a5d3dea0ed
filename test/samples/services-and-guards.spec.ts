// Sample 03: tasks of services and of guards.
import { describe, expect, it } from '@jest/globals';
import { AppModule } from '../../sample/03-services-and-guards/app.module.js';
import { AuditLog } from '../../sample/03-services-and-guards/audit-log.js';
import { Mailer } from '../../sample/03-services-and-guards/mailer.js';
import { type TestApp, createApp, platforms } from '../support/app.js';

describe.each(platforms)('sample/03-services-and-guards on %s', (platform) => {
  const share = ({ http }: TestApp, document: string, key: string) =>
    http.post(`/documents/${document}/share`).set('x-api-key', key).send(['ann@example.com', 'bob@example.com']);

  it('invites the people that a document is shared with, and keeps a record', async () => {
    const served = await createApp(platform, AppModule);
    await share(served, 'plan', 'open sesame').expect(204);
    await served.runner.onIdle();
    expect(served.app.get(Mailer).sent).toEqual([
      'ann@example.com: "plan" was shared with you',
      'bob@example.com: "plan" was shared with you',
    ]);
    expect(served.app.get(AuditLog).entries).toEqual(['/documents/plan/share allowed']);
  });

  it('records the request that the guard denied', async () => {
    const served = await createApp(platform, AppModule);
    await share(served, 'plan', 'wrong').expect(403);
    await served.runner.onIdle();
    expect(served.app.get(Mailer).sent).toEqual([]);
    expect(served.app.get(AuditLog).entries).toEqual(['/documents/plan/share denied']);
  });

  it('invites nobody when the request failed', async () => {
    const served = await createApp(platform, AppModule);
    await share(served, 'missing', 'open sesame').expect(404);
    await served.runner.onIdle();
    expect(served.app.get(Mailer).sent).toEqual([]);
    expect(served.logs.of('debug')).toHaveLength(2);
    expect(served.app.get(AuditLog).entries).toEqual(['/documents/missing/share allowed']);
  });
});
