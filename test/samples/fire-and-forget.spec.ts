// Sample 20: docs/from-fire-and-forget.md. Places that do not wait for their work, with tasks in their place, and the lint rules that find
// them.
import { execFile } from 'node:child_process';
import { describe, expect, it } from '@jest/globals';
import { AdminModule, AppModule } from '../../sample/20-fire-and-forget/app.module.js';
import { Audit, Mail } from '../../sample/20-fire-and-forget/work.js';
import { createApp, platforms } from '../support/app.js';
import { gate } from '../support/gate.js';

/** Mails that are on their way until the test lets them arrive. */
class GatedMail extends Mail {
  readonly arrival = gate();

  override async send(to: string, text: string): Promise<void> {
    await this.arrival.opened;
    if (to === 'boss@example.com') throw new Error('the mailbox is full');
    this.sent.push(`${text} to ${to}`);
  }
}

describe.each(platforms)('sample/20-fire-and-forget on %s', (platform) => {
  it.each([
    ['the application', AppModule],
    ['its admin application, whose root module is another one', AdminModule],
  ])('%s answers first, and then does the work of its handler, its interceptor and its listener', async (_, module) => {
    const mail = new GatedMail();
    const { app, http, runner, logs } = await createApp(platform, module, {
      build: (builder) => builder.overrideProvider(Mail).useValue(mail),
    });
    await http.post('/orders/ada@example.com').expect(201, { message: 'Order placed' });
    expect(mail.sent).toEqual([]);
    mail.arrival.open();
    await runner.onIdle();
    expect(app.get(Audit).entries).toEqual(['/orders/ada@example.com']);
    expect(mail.sent.toSorted()).toEqual([
      'order of ada@example.com to billing@example.com',
      'order of ada@example.com to stock@example.com',
      'your order to ada@example.com',
    ]);
    expect(logs.of('error')).toEqual(['Background task "tell of order" failed: the mailbox is full']);
    expect(logs.of('warn')).toEqual([]);
  });
});

describe('the lint rules of docs/from-fire-and-forget.md', () => {
  it('find statements that begin with `void`, and callbacks that return a promise; the other places are for a search', async () => {
    const folder = 'sample/20-fire-and-forget';
    const args = ['node_modules/oxlint/bin/oxlint', '--type-aware', '-c', `${folder}/oxlint.json`, '--format', 'unix', folder];
    const report = await new Promise<string>((resolve) => {
      execFile(process.execPath, args, (_error, stdout) => resolve(stdout));
    });
    expect(report.match(/[\w-]+\.ts:\d+/g)).toEqual(['before.ts:24', 'before.ts:37', 'before.ts:39']);
  });
});
