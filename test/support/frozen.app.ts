import { AsyncLocalStorage } from 'node:async_hooks';
import { once } from 'node:events';
import { type IncomingMessage, type ServerResponse, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createInterface } from 'node:readline';
import { PassThrough, type Writable } from 'node:stream';
import { text } from 'node:stream/consumers';

// Serverless platforms run functions in a process that is frozen, with SIGSTOP, as soon as a function has returned.
// sample-serverless.spec.ts starts it with the kind of the platform and the file of a function, and hears one line for each thing that
// happens.

type Handler = (...args: unknown[]) => Promise<unknown>;

const [, , kind, file] = process.argv;

function freeze(): void {
  console.log('frozen');
  process.kill(process.pid, 'SIGSTOP');
  console.log('thawed');
}

/** An invocation for each line of the standard input. */
async function runLambda(invoke: (event: unknown) => Promise<unknown>): Promise<void> {
  console.log('ready');
  for await (const line of createInterface(process.stdin)) {
    await invoke(JSON.parse(line));
    freeze();
  }
}

const kinds: Record<string, () => Promise<void>> = {
  async lambda() {
    const { handler }: { handler: Handler } = await import(file!);
    await runLambda(async (event) => {
      const answer = (await handler(event, {})) as { statusCode: number; body: string };
      console.log(`answered ${answer.statusCode} ${answer.body}`);
    });
  },

  async 'lambda that streams'() {
    Object.assign(globalThis, {
      awslambda: {
        streamifyResponse: (handler: Handler) => handler,
        HttpResponseStream: { from: (stream: Writable) => stream },
      },
    });
    const { handler }: { handler: Handler } = await import(file!);
    await runLambda(async (event) => {
      const stream = new PassThrough();
      void text(stream).then((body) => console.log(`answered ${body}`));
      await handler(event, stream, {});
    });
  },

  async vercel() {
    interface Context {
      waitUntil(promise: Promise<unknown>): void;
    }
    const contexts = new AsyncLocalStorage<Context>();
    Object.assign(globalThis, { [Symbol.for('@vercel/request-context')]: { get: () => contexts.getStore() } });
    const { default: handler }: { default: (request: IncomingMessage, response: ServerResponse) => void } = await import(file!);
    const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
      const promises: Promise<unknown>[] = [];
      contexts.run({ waitUntil: (promise) => void promises.push(promise) }, () => handler(request, response));
      await once(response, 'finish');
      console.log(`answered ${response.statusCode}`);
      await Promise.all(promises);
      freeze();
    };
    const server = createServer((request, response) => void serve(request, response));
    server.listen(0, '127.0.0.1', () => console.log(`ready ${(server.address() as AddressInfo).port}`));
  },
};

await kinds[kind!]!();
