import { setTimeout } from 'node:timers/promises';
import { Child } from './child.js';
import { pin } from './cores.js';
import type { Figures, Peer } from './compare.js';
import type { Latency } from './client.js';

export type Platform = 'express' | 'fastify';

export interface Load {
  readonly amount: number;
  readonly connections: number;
}

const startClient = (): Promise<Child> => Child.fork(new URL('client.js', import.meta.url));

const client = await startClient();

/** Keeps the process of the client on one core. */
export function pinClient(core: number): void {
  pin(client.pid, core);
}

/** Sends requests from the process of the client, as fast as they are answered. Returns how many that are in a second. */
export function load(url: string, { amount, connections }: Load): Promise<number> {
  return client.call('load', url, amount, connections);
}

/** Sends requests from the process of the client at an even pace. */
export function pace(url: string, amount: number, perSecond: number): Promise<Latency> {
  return client.call('pace', url, amount, perSecond);
}

/** One of the applications, in a process of its own. */
export class Server {
  private readonly holders: Child[] = [];

  private constructor(
    private readonly child: Child,
    private readonly origin: string,
  ) {}

  /** Starts an application, named by its file and its class: `bare/Bare`. */
  static async start(platform: Platform, application: string): Promise<Server> {
    const child = await Child.fork(new URL('server.js', import.meta.url), platform, ...application.split('/'));
    return new Server(child, await child.call<string>('url'));
  }

  /** Keeps the server on one core. */
  pin(core: number): void {
    pin(this.child.pid, core);
  }

  get url(): string {
    return this.address('notify/foo@example.com');
  }

  address(path: string): string {
    return `${this.origin}/${path}`;
  }

  call<T>(method: string, ...args: unknown[]): Promise<T> {
    return this.child.call(method, ...args);
  }

  /** Sends requests that stay in flight until the server is closed; resolves once they all are. */
  async hold(count: number): Promise<void> {
    // A process may have only so many connections.
    const holder = await startClient();
    this.holders.push(holder);
    await holder.call('hold', this.address('held/foo@example.com'), count);
    while ((await this.call<number>('held')) < count) await setTimeout(20);
  }

  /** Sends a load, and counts the processor time that it took. */
  async measure(options: Load): Promise<Figures> {
    const before = await this.child.call<number>('cpu');
    const requestsPerSecond = await load(this.url, options);
    const cpu = (await this.child.call<number>('cpu')) - before;
    return { 'CPU µs/request': cpu / options.amount, 'requests/s': requestsPerSecond };
  }

  async close(): Promise<void> {
    await this.child.close();
    await Promise.all(this.holders.map((holder) => holder.close()));
  }
}

interface Application {
  /** Its file and its class, as in `bare/Bare`. */
  readonly name: string;
  readonly tasks: number;
}

/**
 * Starts applications as the peers of a comparison, all of them on one core if it is named, and checks in every round that each request ran
 * its tasks.
 */
export async function startPeers(platform: Platform, applications: Record<string, Application>, options: Load, core?: number) {
  const servers: Server[] = [];
  const peers: Peer[] = [];
  for (const [name, { name: application, tasks }] of Object.entries(applications)) {
    const server = await Server.start(platform, application);
    servers.push(server);
    if (core !== undefined) server.pin(core);
    peers.push({
      name,
      async round() {
        const figures = await server.measure(options);
        const sent = await server.call<number>('sent');
        if (sent !== tasks * options.amount) throw new Error(`${name}: ${sent} tasks ran for ${options.amount} requests`);
        return figures;
      },
    });
  }
  return { peers, close: () => Promise.all(servers.map((server) => server.close())) };
}

export function closeClient(): Promise<void> {
  return client.close();
}
