import type { EventEmitter } from 'node:events';
import type { BullmqBackend } from './options.js';

type ClientClass = new (...args: never[]) => EventEmitter;

/** BullMQ's connection to Postgres: a pool of pg's clients, and one more, which hears of tasks. */
interface PostgresConnection {
  pgModule: { Client: ClientClass } | undefined;
  pool: { Client: ClientClass };
}

/**
 * Mends what BullMQ 6 leaves open on Postgres. As it connects, looks at its tables and closes, nobody listens for the errors of its clients,
 * and one that is lost then ends the process. Whoever waits for it hears of the loss all the same.
 */
export function mendedBackend(backend: BullmqBackend): BullmqBackend {
  return (...settings) => {
    const made = backend(...settings);
    const connection = Reflect.get(made, 'connection') as Partial<PostgresConnection> | undefined;
    if (connection?.pgModule && connection.pool) {
      const { Client } = connection.pgModule;
      const Mended = class extends Client {
        override emit(...[event, ...args]: Parameters<EventEmitter['emit']>): boolean {
          return event === 'error' && this.listenerCount(event) === 0 ? false : super.emit(event, ...args);
        }
      };
      connection.pgModule = { Client: Mended };
      connection.pool.Client = Mended;
    }
    return made;
  };
}
