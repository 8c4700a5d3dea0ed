import { Comparison, type Figures, type Peer } from './support/compare.js';
import { Server, closeClient, pace } from './support/http.js';

// Response times, at a rate that does not saturate the server.

const RATE = 300;
const AMOUNT = RATE;

async function latency(server: Server): Promise<Figures> {
  const { p50, p99 } = await pace(server.url, AMOUNT, RATE);
  return { 'p50 ms': p50, 'p99 ms': p99 };
}

async function compare(title: string, baseline: string, peers: Record<string, { application: string; burn?: string }>) {
  const servers: Server[] = [];
  const started: Peer[] = [];
  for (const [name, { application, burn }] of Object.entries(peers)) {
    const server = await Server.start('fastify', application);
    servers.push(server);
    started.push({
      name,
      async round() {
        const timer = burn === undefined ? undefined : setInterval(() => void fetch(server.address(`burn/${burn}`)), 100);
        const figures = await latency(server);
        clearInterval(timer);
        return figures;
      },
    });
  }
  const comparison = await Comparison.of(title, started);
  comparison.print('p99 ms', baseline);
  await Promise.all(servers.map((server) => server.close()));
}

await compare(`Latency at ${RATE} requests per second, by what their tasks take`, 'no task', {
  'no task': { application: 'bare/Bare' },
  'task of 0 ms': { application: 'slow-tasks/Waiting0' },
  'task of 10 ms': { application: 'slow-tasks/Waiting10' },
  'task of 1000 ms': { application: 'slow-tasks/Waiting1000' },
});

await compare('Latency beside a CPU task of 50 ms every 100 ms', 'no CPU task', {
  'no CPU task': { application: 'slow-tasks/Burning' },
  'in a thread, by piscina': { application: 'slow-tasks/Burning', burn: 'thread' },
  'on the event loop': { application: 'slow-tasks/Burning', burn: 'event-loop' },
});

await closeClient();
