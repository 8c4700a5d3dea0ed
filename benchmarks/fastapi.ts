import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { Comparison, type Figures, type Peer, printTargets, quick } from './support/compare.js';
import { canPin, pin } from './support/cores.js';
import { type Load, closeClient, load, pinClient, startPeers } from './support/http.js';

// The same route on FastAPI: as Debian's packages python3-fastapi and uvicorn have it, with python3-uvloop and python3-httptools as well,
// and, if the variable UVICORN names one, as another installation has it:
// `python3 -m venv fastapi && fastapi/bin/pip install fastapi uvicorn`.

const CPU = 'CPU µs/request';

const LOAD: Load = { amount: quick ? 2000 : 5000, connections: 16 };

// The client on one core and the servers on the other: a ratio does not depend on who starves whom then.
const [CLIENT_CORE, SERVER_CORE] = [0, 1];

interface FastApi {
  readonly name: string;
  readonly url: string;
  readonly uvicorn: ChildProcess;
}

/** FastAPI on a free port; undefined where it, or the event loop, is not installed. */
async function startFastApi(name: string, loop: string, http: string, command = 'uvicorn'): Promise<FastApi | undefined> {
  const args = ['fastapi_app:app', '--app-dir', 'benchmarks', '--port', '0', '--no-access-log', '--loop', loop, '--http', http];
  const uvicorn = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  const failed = once(uvicorn, 'error').then(() => undefined);
  const started = (async () => {
    for await (const line of createInterface(uvicorn.stderr)) {
      const url = /running on (http:\S+)/.exec(line)?.[1];
      if (!url) continue;
      pin(uvicorn.pid, SERVER_CORE);
      return { name, url, uvicorn };
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

/** Also measured, without a target. */
const onUvloop = (name: string): boolean => name.endsWith('on uvloop');

function peersOf({ name, url, uvicorn }: FastApi): Peer[] {
  return ['async', 'sync'].map((kind) => ({
    name: `${name}, ${kind} task`,
    async round(): Promise<Figures> {
      const before = cpuOf(uvicorn);
      const requestsPerSecond = await load(`${url}/${kind}/foo@example.com`, LOAD);
      return { [CPU]: (cpuOf(uvicorn) - before) / LOAD.amount, 'requests/s': requestsPerSecond };
    },
  }));
}

const { UVICORN } = process.env;
const started = [
  await startFastApi('FastAPI', 'asyncio', 'h11'),
  await startFastApi('FastAPI on uvloop', 'uvloop', 'httptools'),
  UVICORN ? await startFastApi('newer FastAPI', 'asyncio', 'h11', UVICORN) : undefined,
  UVICORN ? await startFastApi('newer FastAPI on uvloop', 'uvloop', 'httptools', UVICORN) : undefined,
].filter((each) => each !== undefined);

if (started.length > 0) {
  for (const { name, url } of started) console.log(`\n${name}: ${await (await fetch(`${url}/versions`)).text()}`);
  console.log(
    canPin ? '\nThe client has one core, the servers another.' : '\nNo `taskset`, or one core: who starves whom is left to chance.',
  );
  pinClient(CLIENT_CORE);
  const applications = {
    'async task': { name: 'package/ParameterAsyncTask', tasks: 1 },
    'sync task': { name: 'package/Parameter', tasks: 1 },
  };
  const fastify = await startPeers('fastify', applications, LOAD, SERVER_CORE);
  const express = await startPeers('express', applications, LOAD, SERVER_CORE);
  const comparison = await Comparison.of('Beside FastAPI', [
    ...started.flatMap(peersOf),
    ...fastify.peers.map((peer) => ({ ...peer, name: `Fastify, ${peer.name}` })),
    ...express.peers.map((peer) => ({ ...peer, name: `Express, ${peer.name}` })),
  ]);
  comparison.print('requests/s', `${started[0]!.name}, async task`);
  printTargets(
    started.flatMap(({ name }) => [
      [
        `${name} / Fastify, async task, processor time`,
        comparison.ratio(`${name}, async task`, 'Fastify, async task', CPU),
        onUvloop(name) ? '' : 'at least 4',
      ],
      [
        `${name} / Express, async task, processor time`,
        comparison.ratio(`${name}, async task`, 'Express, async task', CPU),
        onUvloop(name) ? '' : 'at least 1.2',
      ],
      [`Fastify / ${name}, async task, requests/s`, comparison.ratio('Fastify, async task', `${name}, async task`, 'requests/s'), ''],
      [`Express / ${name}, async task, requests/s`, comparison.ratio('Express, async task', `${name}, async task`, 'requests/s'), ''],
    ]),
  );
  await fastify.close();
  await express.close();
} else {
  console.log('\nFastAPI is not installed (Debian: python3-fastapi, uvicorn): skipped');
}

for (const { uvicorn } of started) uvicorn.kill();
await closeClient();
