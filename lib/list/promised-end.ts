/** The end of a list, as a platform is promised it that would freeze the process otherwise. */
export class PromisedEnd {
  /** The tasks that are not over. */
  open = 0;
  /** Fulfils the promise. */
  keep!: () => void;

  constructor(waitUntil: (end: Promise<void>) => unknown) {
    waitUntil(new Promise((resolve) => (this.keep = resolve)));
  }
}
