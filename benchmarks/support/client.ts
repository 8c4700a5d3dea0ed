import { Agent, get } from 'node:http';
import { connect } from 'node:net';
import { setInterval } from 'node:timers/promises';
import autocannon from 'autocannon';
import { percentile } from './compare.js';
import { serve } from './child.js';

/** The response times that clients see, in ms. */
export interface Latency {
  readonly p50: number;
  readonly p99: number;
}

/** Sends requests as fast as they are answered. Returns how many that are in a second. */
async function load(url: string, amount: number, connections: number): Promise<number> {
  const start = performance.now();
  let end = start;
  const result = await new Promise<autocannon.Result>((resolve, reject) => {
    const run = autocannon({ url, amount, connections, sampleInt: 20 }, (error, done) => (error ? reject(error as Error) : resolve(done)));
    // autocannon itself counts samples, and ends with one.
    run.on('response', () => (end = performance.now()));
  });
  if (result.errors || result.non2xx) throw new Error(`${url}: ${result.errors} errors, ${result.non2xx} answers other than 2xx`);
  return amount / ((end - start) / 1000);
}

const agent = new Agent({ keepAlive: true });

/** Sends requests at an even pace, whether or not earlier ones are answered. */
async function pace(url: string, amount: number, perSecond: number): Promise<Latency> {
  const latencies: Promise<number>[] = [];
  for await (const _ of setInterval(1000 / perSecond)) {
    latencies.push(latencyOf(url));
    if (latencies.length === amount) break;
  }
  const settled = await Promise.all(latencies);
  return { p50: percentile(settled, 0.5), p99: percentile(settled, 0.99) };
}

function latencyOf(url: string): Promise<number> {
  const start = performance.now();
  return new Promise((resolve, reject) => {
    get(url, { agent }, (response) => {
      response.resume().once('end', () => {
        if (response.statusCode === 200) resolve(performance.now() - start);
        else reject(new Error(`${url}: status ${response.statusCode}`));
      });
    }).once('error', reject);
  });
}

/** Sends requests whose answers never come. */
function hold(url: string, count: number): void {
  const { hostname, port, pathname } = new URL(url);
  for (let sent = 0; sent < count; sent += 1) {
    const socket = connect(Number(port), hostname, () => socket.write(`GET ${pathname} HTTP/1.1\r\nHost: ${hostname}\r\n\r\n`));
    // The server ends first.
    socket.on('error', () => {});
  }
}

serve({ load, pace, hold });
