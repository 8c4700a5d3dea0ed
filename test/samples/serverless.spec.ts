// Sample 17: functions that are frozen once they have answered.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setImmediate } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it } from '@jest/globals';
import { isNest12 } from '../support/app.js';
import { Recorder } from '../support/recorder.js';

/** A platform in a process of its own, which is frozen when a function has returned. */
class Platform {
  readonly lines = new Recorder<string>();
  /** Warnings that the application logged. */
  readonly warnings: string[] = [];
  readonly #process: ChildProcess;
  readonly #exit: Promise<unknown>;
  #thawed = 0;

  constructor(kind: string, file: string) {
    const support = fileURLToPath(new URL('../support/', import.meta.url));
    this.#process = spawn(
      process.execPath,
      ['--import', `${support}typescript.js`, `${support}frozen.app.ts`, kind, new URL(file, import.meta.url).href],
      {
        env: { ...process.env, NODE_OPTIONS: '', NEST: isNest12 ? '12' : '11', AWS_LAMBDA_FUNCTION_NAME: 'sign-ups' },
        stdio: ['pipe', 'pipe', 'inherit'],
      },
    );
    this.#exit = once(this.#process, 'close');
    createInterface(this.#process.stdout!).on('line', (line) => {
      if (line === 'thawed') this.#thawed += 1;
      // Nest logs to the standard output, too.
      if (line.includes('WARN')) this.warnings.push(line);
      if (/^(ready|answered|frozen|Welcomed|queued)/.test(line)) this.lines.add(line);
    });
  }

  /** Has a function answer a request to sign up. */
  signUp(email: string): void {
    const event = {
      version: '2.0',
      routeKey: '$default',
      rawPath: '/sign-ups',
      rawQueryString: '',
      headers: { host: 'example.com', 'content-type': 'application/json' },
      requestContext: { stage: '$default', http: { method: 'POST', path: '/sign-ups', sourceIp: '127.0.0.1', protocol: 'HTTP/1.1' } },
      body: JSON.stringify({ email }),
      isBase64Encoded: false,
    };
    this.#process.stdin!.write(`${JSON.stringify(event)}\n`);
  }

  /** After it said that it is frozen, which it is a moment later. */
  async thaw(): Promise<void> {
    for (const before = this.#thawed; this.#thawed === before; await setImmediate()) this.#process.kill('SIGCONT');
  }

  async kill(): Promise<void> {
    this.#process.kill('SIGKILL');
    await this.#exit;
  }
}

describe('a process that is frozen when its function has returned', () => {
  let platform: Platform | undefined;

  afterEach(() => platform?.kill());

  async function start(kind: string, file: string): Promise<Platform> {
    platform = new Platform(kind, file);
    await platform.lines.atLeast(1);
    return platform;
  }

  it.each(['lambda-express', 'lambda-fastify'])('%s: the tasks have run by the time that the client has its answer', async (file) => {
    const { lines } = await start('lambda', `../../sample/17-serverless/${file}.ts`);
    platform!.signUp('ann@example.com');
    expect(await lines.atLeast(4)).toEqual([
      'ready',
      'Welcomed ann@example.com',
      expect.stringMatching(/^answered 201 .*ann@example.com/),
      'frozen',
    ]);
    await platform!.thaw();
    platform!.signUp('bob@example.com');
    await lines.atLeast(7);
    await platform!.kill();
    expect(lines.all.slice(4)).toEqual(['Welcomed bob@example.com', expect.stringMatching(/^answered 201/), 'frozen']);
  });

  it.each(['lambda-express', 'lambda-fastify'])('%s: a cold start logs no warning', async (file) => {
    const { warnings } = await start('lambda', `../../sample/17-serverless/${file}.ts`);
    expect(warnings).toEqual([]);
  });

  it('lambda-streaming: a cold start logs no warning', async () => {
    const { warnings } = await start('lambda that streams', '../../sample/17-serverless/lambda-streaming.ts');
    expect(warnings).toEqual([]);
  });

  it('an application that does not wait for its tasks is warned at a cold start', async () => {
    const { warnings } = await start('lambda', '../support/naive-lambda.ts');
    expect(warnings).toEqual([expect.stringContaining('Background tasks may be delayed or lost here (AWS Lambda)')]);
  });

  it('lambda-streaming: the client has its answer first, and the tasks have run when the function is frozen', async () => {
    const { lines } = await start('lambda that streams', '../../sample/17-serverless/lambda-streaming.ts');
    platform!.signUp('ann@example.com');
    expect(await lines.atLeast(4)).toEqual([
      'ready',
      expect.stringMatching(/^answered .*ann@example.com/),
      'Welcomed ann@example.com',
      'frozen',
    ]);
  });

  it('vercel: the client has its answer first, and the function is frozen when the tasks have run', async () => {
    const { lines } = await start('vercel', '../../sample/17-serverless/vercel.ts');
    const [, port] = lines.all[0]!.split(' ');
    const signUp = async (email: string) => {
      const response = await fetch(`http://127.0.0.1:${port}/sign-ups`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', connection: 'close' },
        body: JSON.stringify({ email }),
      });
      expect(await response.json()).toEqual({ email });
    };
    await signUp('ann@example.com');
    expect((await lines.atLeast(4)).slice(1)).toEqual(['answered 201', 'Welcomed ann@example.com', 'frozen']);
    await platform!.thaw();
    await signUp('bob@example.com');
    expect((await lines.atLeast(7)).slice(4)).toEqual(['answered 201', 'Welcomed bob@example.com', 'frozen']);
  });

  it('with an engine, it has the tasks before the client has its answer', async () => {
    const { lines } = await start('lambda', '../support/engine-lambda.ts');
    platform!.signUp('ann@example.com');
    expect((await lines.atLeast(4)).slice(1)).toEqual(['queued welcome', expect.stringMatching(/^answered 201/), 'frozen']);
  });

  it('without any of these, the tasks wait for the thaw', async () => {
    const { lines } = await start('lambda', '../support/naive-lambda.ts');
    platform!.signUp('ann@example.com');
    expect((await lines.atLeast(3)).slice(1)).toEqual([expect.stringMatching(/^answered 201/), 'frozen']);
    await platform!.thaw();
    expect((await lines.atLeast(4)).at(-1)).toBe('Welcomed ann@example.com');
  });

  it('and are lost if it never comes', async () => {
    const { lines } = await start('lambda', '../support/naive-lambda.ts');
    platform!.signUp('ann@example.com');
    await lines.atLeast(3);
    await platform!.kill();
    expect(lines.all.slice(1)).toEqual([expect.stringMatching(/^answered 201/), 'frozen']);
  });
});
