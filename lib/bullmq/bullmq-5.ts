import { EventEmitter } from 'node:events';

/** The client of ioredis 5, as far as it is mended. */
interface Client {
  socketTimeoutTimer: NodeJS.Timeout | undefined;
  on(event: 'close', listener: () => void): void;
}

/**
 * Mends what BullMQ 5, and the ioredis 5 that it comes with, leave behind in a `Queue` or a `Worker`. BullMQ 6 has none of these fields.
 *
 * A connection that is closed while it opens fails, and says so when its listeners have been taken off, which ends the process. And the timer
 * of `socketTimeout` runs on for a connection that is lost or closed, and keeps the process from ending.
 */
export function mendConnections(part: object): void {
  for (const connection of [Reflect.get(part, 'connection'), Reflect.get(part, 'blockingConnection')] as unknown[]) {
    if (!(connection instanceof EventEmitter)) continue;
    connection.removeAllListeners = () => connection;
    // BullMQ 5 makes it right away.
    const client = Reflect.get(connection, '_client') as Client;
    client.on('close', () => {
      clearTimeout(client.socketTimeoutTimer);
      client.socketTimeoutTimer = undefined;
    });
  }
}
