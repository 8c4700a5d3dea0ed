import { Worker } from 'node:worker_threads';

/** How long a response may take that is not held up: what a test waits for in vain when it is. */
const PATIENCE = 2_000;

/** The response that a client got, `complete` or cut short. */
export interface Answer {
  readonly status: number | undefined;
  readonly body: string;
  readonly complete: boolean;
}

/** A request on its way. */
export interface Exchange {
  /** Resolves with the first bytes of the body. */
  readonly begun: Promise<void>;
  /** Resolves with the last bytes, or when the connection is gone. */
  readonly over: Promise<Answer>;
}

export type ClientRequest =
  | { readonly type: 'http1' | 'http2'; readonly url: string; readonly method: string; readonly headers?: Record<string, string> }
  | { readonly type: 'raw'; readonly url: string; readonly text: string };

type Message = { type: 'begun' } | { type: 'over'; answer: Answer };

/** A client in a thread of its own: it goes on while a task blocks the server, and can tell the task what it has received. */
export class Client {
  readonly #over = new Int32Array(new SharedArrayBuffer(4));
  readonly #thread = new Worker(new URL('./client-thread.mjs', import.meta.url), { workerData: this.#over.buffer });

  #busy = false;

  /** One at a time: a test waits for the end of each, or the next one would take it for its own. */
  send(request: ClientRequest): Exchange {
    if (this.#busy) throw new Error('The request before this one is not over');
    this.#busy = true;
    Atomics.store(this.#over, 0, 0);
    let begin!: () => void;
    const begun = new Promise<void>((resolve) => (begin = resolve));
    const over = new Promise<Answer>((resolve) => {
      const listener = (message: Message): void => {
        if (message.type === 'begun') return begin();
        this.#thread.off('message', listener);
        this.#busy = false;
        resolve(message.answer);
      };
      this.#thread.on('message', listener);
    });
    this.#thread.postMessage(request);
    return { begun, over };
  }

  /** Cuts the connection of the request on its way. */
  leave(): void {
    this.#thread.postMessage({ type: 'leave' });
  }

  /**
   * Blocks the server until the client has the last byte, and says whether it came: not if the response is still open, or if the block
   * itself holds the last byte up.
   */
  hasLastByte(): boolean {
    return Atomics.wait(this.#over, 0, 0, PATIENCE) !== 'timed-out';
  }

  async close(): Promise<void> {
    await this.#thread.terminate();
  }
}
