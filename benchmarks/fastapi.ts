import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { Comparison, type Figures, type Peer, printTargets, quick } from './support/compare.js';
import { type Load, closeClient, load, startPeers } from './support/http.js';

// The same route on FastAPI: as Debian's packages python3-fastapi and uvicorn have it, and with python3-uvloop and python3-httptools as well.

const LOAD: Load = { amount: quick ? 2000 : 3000, connections: 16 };

interface FastApi {
  readonly name: string;
  readonly url: string;
  readonly uvicorn: ChildProcess;
}

/** FastAPI on a free port; undefined where it, or the event loop, is not installed. */
async function startFastApi(name: string, loop: string, http: string): Promise<FastApi | undefined> {
  const args = ['fastapi_app:app', '--app-dir', 'benchmarks', '--port', '0', '--no-access-log', '--loop', loop, '--http', http];
  const uvicorn = spawn('uvicorn', args, { stdio: ['ignore', 'ignore', 'pipe'] });
  const failed = once(uvicorn, 'error').then(() => undefined);
  const started = (async () => {
    for await (const line of createInterface(uvicorn.stderr)) {
      const url = /running on (http:\S+)/.exec(line)?.[1];
      if (url) return { name, url, uvicorn };
    }
    return undefined;
  })();
  return Promise.race([started, failed]);
}

/** Microseconds of processor time that a process has used, on Linux. */
function cpuOf({ pid }: ChildProcess): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
  const ticks = Number(fields[11]) + Number(fields[12]);
  return ticks * 10_000;
}

function peersOf({ name, url, uvicorn }: FastApi): Peer[] {
  return ['async', 'sync'].map((kind) => ({
    name: `${name}, ${kind} task`,
    async round(): Promise<Figures> {
      const before = cpuOf(uvicorn);
      const requestsPerSecond = await load(`${url}/${kind}/foo@example.com`, LOAD);
      return { 'CPU µs/request': (cpuOf(uvicorn) - before) / LOAD.amount, 'requests/s': requestsPerSecond };
    },
  }));
}

const fastApi = await startFastApi('FastAPI', 'asyncio', 'h11');
const fastApiOnUvloop = await startFastApi('FastAPI on uvloop', 'uvloop', 'httptools');

if (fastApi) {
  console.log(`\n${await (await fetch(`${fastApi.url}/versions`)).text()}`);
  const applications = {
    'async task': { name: 'package/ParameterAsyncTask', tasks: 1 },
    'sync task': { name: 'package/Parameter', tasks: 1 },
  };
  const fastify = await startPeers('fastify', applications, LOAD);
  const express = await startPeers('express', applications, LOAD);
  const comparison = await Comparison.of('Beside FastAPI', [
    ...peersOf(fastApi),
    ...(fastApiOnUvloop ? peersOf(fastApiOnUvloop) : []),
    ...fastify.peers.map((peer) => ({ ...peer, name: `Fastify, ${peer.name}` })),
    ...express.peers.map((peer) => ({ ...peer, name: `Express, ${peer.name}` })),
  ]);
  comparison.print('requests/s', 'FastAPI, async task');
  const ratio = (peer: string): string => comparison.ratio('Fastify, async task', peer, 'requests/s');
  printTargets([
    ['Fastify / FastAPI, async task, requests/s', ratio('FastAPI, async task'), 'at least 4'],
    ...(fastApiOnUvloop ? ([['the same / FastAPI on uvloop', ratio('FastAPI on uvloop, async task'), '']] as const) : []),
  ]);
  await fastify.close();
  await express.close();
} else {
  console.log('\nFastAPI is not installed (Debian: python3-fastapi, uvicorn): skipped');
}

fastApi?.uvicorn.kill();
fastApiOnUvloop?.uvicorn.kill();
await closeClient();
