import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { cpus } from 'node:os';

// Runs the named programs, or all: `npm run bench`, `npm run bench -- runner scale --quick`.

const all = ['request-overhead', 'fastapi', 'runner', 'latency', 'memory', 'scale', 'engine', 'outbox', 'outbox-kills', 'rolling-deploy'];
const packages = [
  '@nestjs/core',
  '@nestjs/platform-express',
  '@nestjs/platform-fastify',
  'nestjs-cls',
  '@nestjs/event-emitter',
  'p-queue',
  'fastq',
  'p-limit',
  'piscina',
  'autocannon',
  'bullmq',
  'ioredis',
  'pg',
];

const options = process.argv.slice(2).filter((argument) => argument.startsWith('-'));
const named = process.argv.slice(2).filter((argument) => !argument.startsWith('-'));
const unknown = named.filter((name) => !all.includes(name));
if (unknown.length > 0) {
  console.error(`No such benchmark: ${unknown.join(', ')}; there are ${all.join(', ')}`);
  process.exit(1);
}

/** Some packages export no package.json, and nothing for `require`: look where they lie. */
function versionOf(name: string): string {
  const [file] = (createRequire(import.meta.url).resolve.paths(name) ?? []).flatMap((directory) => {
    try {
      return [readFileSync(`${directory}/${name}/package.json`, 'utf8')];
    } catch {
      return [];
    }
  });
  return file ? `${name} ${JSON.parse(file).version}` : `${name} is not installed`;
}

const [cpu] = cpus();
console.log(`${new Date().toISOString().slice(0, 10)}, ${cpus().length} × ${cpu?.model}, Node ${process.versions.node}`);
console.log(`${packages.map(versionOf).join(', ')}`);
console.log('\nMedians of interleaved rounds, with the lowest and the highest; ratios are taken round by round.');

for (const name of named.length > 0 ? named : all) {
  console.log(`\n## ${name}`);
  const { status } = spawnSync(process.execPath, [new URL(`${name}.js`, import.meta.url).pathname, ...options], { stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
}
