import { Injectable, type OnApplicationBootstrap } from '@nestjs/common';
import { BackgroundTasks } from 'nestjs-background-tasks';
import { Supplier } from './supplier.js';

/** A singleton, although it injects the tasks: under `Scope.DEFAULT` they follow the request. */
@Injectable()
export class Stock implements OnApplicationBootstrap {
  readonly #left = new Map([
    ['pens', 2],
    ['ink', 0],
  ]);

  constructor(
    private readonly tasks: BackgroundTasks,
    private readonly supplier: Supplier,
  ) {}

  /** At boot there is no request to wait for: these tasks start at once. */
  onApplicationBootstrap(): void {
    for (const [article, left] of this.#left) {
      if (left === 0) this.tasks.addTask({ name: 'order' }, () => this.supplier.order(article, 'none at the start'));
    }
  }

  /** Orders an article that runs short, once the request or message that sold it is over. */
  sell(article: string): { left: number } {
    const left = Math.max(0, (this.#left.get(article) ?? 0) - 1);
    this.#left.set(article, left);
    if (left < 2) this.tasks.addTask({ name: 'order' }, () => this.supplier.order(article, `${left} left`));
    return { left };
  }
}
