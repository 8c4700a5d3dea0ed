// Runs the specs that depend on the runtime on another version of Node: `npm run test:on 24`, or `npm run test:on 24 test/http` for some of
// them.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

/**
 * A version of Node may change these: requests, connections and responses, async context, timers, errors, signals, and built code. The
 * engine's servers, guides and samples are the same on each.
 */
const FOLDERS = ['test/http', 'test/outcome', 'test/shutdown', 'test/transports', 'test/module'];

const [version, ...paths] = process.argv.slice(2);
if (!/^\d+(\.\d+)*$/.test(version ?? '')) {
  console.error(`Expected a version of Node, such as 24, got \`${version}\``);
  process.exit(1);
}

/** The npm package `node` brings a Node of its own. */
const folder = resolve('node_modules/.cache', `node-${version}`);
const node = join(folder, 'node_modules/node/bin/node');
if (!existsSync(node)) {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'package.json'), '{ "private": true }');
  run('npm', ['install', '--no-audit', '--no-fund', `node@${version}`], { cwd: folder });
}
run(node, ['--version']);
run(node, [
  '--experimental-vm-modules',
  '--disable-warning=ExperimentalWarning',
  'node_modules/jest/bin/jest.js',
  ...(paths.length > 0 ? paths : FOLDERS),
]);

function run(command, args, options) {
  const { status } = spawnSync(command, args, { stdio: 'inherit', ...options });
  if (status !== 0) process.exit(status ?? 1);
}
