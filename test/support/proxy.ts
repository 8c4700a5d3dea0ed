import { once } from 'node:events';
import { type Socket, connect, createServer } from 'node:net';

/** A proxy between a client and its server that disturbs their connections as networks do. */
export interface Proxy {
  /** The URL of the server, by way of the proxy. */
  readonly url: string;
  /** The number of open connections. */
  readonly connections: number;
  /** Resolves once a client has sent a command like this. */
  sent(command: RegExp): Promise<void>;
  /** Silently passes no more bytes on open connections. New ones work. */
  drop(): void;
  /** Ends the connections that are open, and refuses new ones. */
  cut(): void;
  /**
   * Cuts connections when the server sends for the nth time from now on. With last words, each client still gets these and everything sent
   * before.
   */
  cutAtAnswer(count: number, lastWords?: Buffer): Promise<void>;
  /** Leaves open connections as they are; new ones lead to another server, as after a failover that keeps the address. */
  redirect(url: string): void;
  /** Takes new connections again. */
  restore(): void;
  close(): Promise<void>;
}

export async function startProxy(serverUrl: string): Promise<Proxy> {
  let target = new URL(serverUrl);
  const open = new Set<Socket>();
  const clients = new Set<Socket>();
  let refusing = false;
  const watchers = new Set<(sent: string) => void>();
  let answered = (): void => undefined;
  const server = createServer((client) => {
    if (refusing) {
      client.destroy();
      return;
    }
    const upstream = connect(Number(target.port), target.hostname);
    clients.add(client);
    client.once('close', () => clients.delete(client));
    client.on('data', (data) => {
      for (const watcher of watchers) watcher(data.toString('latin1'));
    });
    upstream.on('data', () => answered());
    for (const [socket, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      open.add(socket);
      socket.on('error', () => undefined);
      socket.once('close', () => {
        open.delete(socket);
        // The end of a connection that passes no bytes is not heard of, either.
        if (!dropped.has(socket)) other.destroy();
      });
      socket.pipe(other, { end: false });
    }
  });
  const dropped = new WeakSet<Socket>();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  function cut(): void {
    refusing = true;
    for (const socket of open) socket.destroy();
  }
  function cutWith(lastWords: Buffer): void {
    refusing = true;
    for (const client of clients) client.cork();
    // Once the client has what is being sent, and in one go with that.
    queueMicrotask(() => {
      for (const client of clients) client.end(lastWords);
    });
  }

  const url = new URL(serverUrl);
  url.port = String((server.address() as { port: number }).port);
  return {
    url: url.href,
    get connections() {
      return clients.size;
    },
    sent: (command) =>
      new Promise((resolve) => {
        const watcher = (sent: string): void => {
          if (!command.test(sent)) return;
          watchers.delete(watcher);
          resolve();
        };
        watchers.add(watcher);
      }),
    drop() {
      for (const socket of open) {
        dropped.add(socket);
        socket.unpipe();
        // Data that arrives is read, and dropped.
        socket.resume();
      }
    },
    cut,
    cutAtAnswer: (count, lastWords) =>
      new Promise((resolve) => {
        let answers = 0;
        answered = () => {
          if (++answers !== count) return;
          if (lastWords) cutWith(lastWords);
          else cut();
          resolve();
        };
      }),
    redirect(to) {
      target = new URL(to);
    },
    restore() {
      refusing = false;
      answered = () => undefined;
    },
    async close() {
      server.close();
      for (const socket of open) socket.destroy();
      await once(server, 'close');
    },
  };
}
