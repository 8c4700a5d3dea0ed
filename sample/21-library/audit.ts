// A library. It does not import nestjs-background-tasks, nor does its package.json mention it.
import { Inject, Injectable, Optional } from '@nestjs/common';

/** Runs work that nobody waits for. */
export type RunLater = (work: () => unknown) => void;

/** Provide this, globally, to choose when and how the library runs such work. */
export const RUN_LATER = Symbol('RUN_LATER');

/** The default runs the work at once. A failure must not end the process. */
const runNow: RunLater = (work) => void Promise.resolve().then(work).catch(console.error);

@Injectable()
export class Audit {
  readonly written: string[] = [];
  private readonly runLater: RunLater;

  constructor(@Optional() @Inject(RUN_LATER) runLater?: RunLater) {
    this.runLater = runLater ?? runNow;
  }

  note(line: string): void {
    this.runLater(() => this.written.push(line));
  }
}
