import { EventEmitter } from 'node:events';

/** The client of ioredis 5, as far as it is mended. */
interface Client {
  socketTimeoutTimer: NodeJS.Timeout | undefined;
  disconnect(): void;
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
    const client = clientOf(connection);
    client.on('close', () => {
      clearTimeout(client.socketTimeoutTimer);
      client.socketTimeoutTimer = undefined;
    });
  }
}

/** Lets go of the connection that waits for tasks, which BullMQ 5 forgets as it disconnects a worker: it would be tried again for ever. */
export function stopWaiting(worker: object): void {
  const connection = Reflect.get(worker, 'blockingConnection') as unknown;
  if (connection instanceof EventEmitter) clientOf(connection).disconnect();
}

/** BullMQ 5 makes it right away. */
function clientOf(connection: EventEmitter): Client {
  return Reflect.get(connection, '_client') as Client;
}
