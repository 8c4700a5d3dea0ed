// Guarantee 13: whatever code of users throws, and wherever it is called, it fails its own task only: siblings run, shutdowns wait, the
// process lives.
import { type ExecFileException, execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from '@jest/globals';
import { isNest12, platforms } from '../support/app.js';

/** Resolves with the lines that hostile.app.ts prints. */
async function run(platform: string, kind: string): Promise<{ lines: string[]; code: ExecFileException['code']; errors: string }> {
  const support = fileURLToPath(new URL('../support/', import.meta.url));
  const args = ['--import', `${support}typescript.js`, `${support}hostile.app.ts`, platform, kind];
  // Jest's own flags are not for the program.
  const env = { ...process.env, NODE_OPTIONS: '', NEST: isNest12 ? '12' : '11' };
  return new Promise((resolve) =>
    execFile(process.execPath, args, { env }, (error, stdout, errors) =>
      resolve({ lines: stdout.trim().split('\n'), code: error?.code ?? 0, errors }),
    ),
  );
}

const FAILED = [
  'error',
  'reason',
  'a getter of an error',
  'a getter `then`',
  'a getter `next`',
  'a getter `lift`',
  'a getter `next` in a promise',
  'a proxy',
];

describe.each(platforms)('on %s', (platform) => {
  it.each(['nothing', 'prepareStackTrace throws', 'Error is frozen', 'stackTraceLimit throws'])(
    'failures are logged and reported, siblings run, and a shutdown waits, where in the process: %s',
    async (kind) => {
      const { lines, code, errors } = await run(platform, kind);
      expect({ code, errors }).toEqual({ code: 0, errors: '' });

      const reported = lines.filter((line) => line.startsWith('onError')).map((line) => line.slice('onError: '.length));
      expect(reported).toEqual([...FAILED, 'timed out', 'listener', 'aborted', 'behind it']);
      for (const name of [...FAILED, 'timed out', 'listener', 'aborted']) {
        expect(lines).toContainEqual(
          expect.stringMatching(new RegExp(`^logged: Background task "${name}" (failed|did not end|was aborted)`)),
        );
      }
      expect(lines.filter((line) => line.startsWith('ran'))).toEqual([
        ...FAILED.map((name) => `ran: after ${name}`),
        'ran: after the timeout',
        'ran: after the cancellation',
        'ran: slow',
      ]);
      // The teardown that throws is told, too.
      for (const name of ['timed out', 'cancelled', 'aborted']) {
        expect(lines).toContainEqual(expect.stringMatching(new RegExp(`"${name}" failed after it had been aborted: .*of the user`)));
      }
      expect(lines.slice(lines.indexOf('ran: slow')).filter((line) => !line.startsWith('logged'))).toEqual([
        'ran: slow',
        'onError: aborted',
        'onError: behind it',
        'destroyed',
        'closed',
      ]);
    },
  );
});
