import { Injectable } from '@nestjs/common';
import { BackgroundTasksRunner } from 'nestjs-background-tasks';
import { DataSource, type EntityManager } from 'typeorm';

/** True if a transaction was rolled back because of a concurrent one, so that the work may be tried again. */
export function lostToAnother(error: unknown): boolean {
  return (error as { code?: string }).code === '40001';
}

/** Stands in for a mail server. */
@Injectable()
export class Mail {
  readonly sent: string[] = [];

  send(order: string): void {
    this.sent.push(order);
  }
}

@Injectable()
export class Stock {
  async left(manager: EntityManager, article: string): Promise<number> {
    const [row] = await manager.query<[{ pieces: number }]>('SELECT pieces FROM stock WHERE article = $1', [article]);
    return row.pieces;
  }

  async set(manager: EntityManager, article: string, pieces: number): Promise<void> {
    await manager.query('UPDATE stock SET pieces = $2 WHERE article = $1', [article, pieces]);
  }
}

@Injectable()
export class Orders {
  constructor(
    private readonly dataSource: DataSource,
    private readonly runner: BackgroundTasksRunner,
    private readonly stock: Stock,
    private readonly mail: Mail,
  ) {}

  /** Each attempt has its own list. The tasks of a failed attempt are discarded. */
  async place(order: string, article: string): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.runner.within((tasks) =>
          this.dataSource.transaction('SERIALIZABLE', async (manager) => {
            tasks.addTask({ name: 'mail' }, (id) => this.mail.send(id), order);
            const pieces = await this.stock.left(manager, article);
            await this.stock.set(manager, article, pieces - 1);
          }),
        );
      } catch (error) {
        if (attempt === 3 || !lostToAnother(error)) throw error;
      }
    }
  }
}
