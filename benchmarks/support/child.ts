import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';

type Handlers = Record<string, (...args: never[]) => unknown>;

interface Call {
  readonly id: number;
  readonly method: string;
  readonly args: never[];
}

interface Answer {
  readonly id: number;
  readonly result?: unknown;
  readonly error?: string;
}

/** In a child process: answers the calls of its parent. */
export function serve(handlers: Handlers): void {
  const answer = async ({ id, method, args }: Call): Promise<Answer> => {
    try {
      return { id, result: await handlers[method]!(...args) };
    } catch (error) {
      return { id, error: error instanceof Error ? String(error.stack) : String(error) };
    }
  };
  process.on('message', (call: Call) => void answer(call).then((result) => process.send!(result)));
  process.once('disconnect', () => process.exit());
  process.send!('ready');
}

/** A process of its own for what is measured, so that neither garbage nor compiled code of one peer weighs on another. */
export class Child {
  #calls = 0;

  private constructor(private readonly process: ChildProcess) {
    process.setMaxListeners(0);
  }

  /** Starts a module that calls `serve`. */
  static async fork(module: URL, ...args: string[]): Promise<Child> {
    // JSON, the default, has no Infinity.
    const child = fork(module, args, { execArgv: ['--expose-gc'], serialization: 'advanced' });
    const [first] = await Promise.race([once(child, 'message'), once(child, 'exit')]);
    if (first !== 'ready') throw new Error(`${module.pathname} ${args.join(' ')} did not start: exit code ${first}`);
    return new Child(child);
  }

  get pid(): number | undefined {
    return this.process.pid;
  }

  call<T>(method: string, ...args: unknown[]): Promise<T> {
    const id = this.#calls++;
    return new Promise((resolve, reject) => {
      const died = (): void => reject(new Error(`The process ended during ${method}()`));
      const answered = (answer: Answer): void => {
        if (answer.id !== id) return;
        this.process.off('message', answered).off('exit', died);
        if (answer.error) reject(new Error(answer.error));
        // The parent names the type of what its own child answers.
        else resolve(answer.result as T);
      };
      this.process.on('message', answered).once('exit', died);
      this.process.send({ id, method, args });
    });
  }

  async close(): Promise<void> {
    const exit = once(this.process, 'exit');
    this.process.disconnect();
    await exit;
  }
}
