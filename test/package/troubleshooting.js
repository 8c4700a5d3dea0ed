// Meets the symptoms of docs/troubleshooting.md that need npm or the CLI of Nest, and cures them as the page says.
import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { collect, edit, freePort } from './first-screen.js';

const guide = readFileSync('docs/troubleshooting.md', 'utf8');

/** Asks npm for an unsupported Nest. Nothing is installed. */
export function checkUnsupportedNest(application, tarball) {
  mkdirSync(application);
  const npm = npmIn(application);
  writeJson(application, 'package.json', { private: true, dependencies: { ...nest(10), 'reflect-metadata': '^0.2.0', rxjs: '^7.8.0' } });
  npm('install', '--package-lock-only');
  assert.match(npm('ls', '--package-lock-only', '@nestjs/core').stdout, /@nestjs\/core@10\./);

  const { status, stderr } = npm('install', '--package-lock-only', tarball);
  assert.notEqual(status, 0);
  const [, heading] = /^## (npm error .*)$/m.exec(guide);
  assert.ok(stderr.includes(heading), stderr);

  const upgrades = Object.entries(nest(11)).map((dependency) => dependency.join('@'));
  const cured = npm('install', '--package-lock-only', ...upgrades, tarball);
  assert.equal(cured.status, 0, cured.stderr);
}

/** Installs two workspaces with a version of Nest each. npm puts this package beside one of them. */
export function checkMonorepo(monorepo, tarball) {
  const workspaces = ['one', 'other'];
  const useNest = (name, version) =>
    writeJson(join(monorepo, name), 'package.json', {
      name,
      version: '1.0.0',
      type: 'module',
      dependencies: { ...nest(version), 'nestjs-background-tasks': `file:${tarball}`, 'reflect-metadata': '^0.2.0', rxjs: '^7.8.0' },
    });
  const boot = () => workspaces.map((name) => spawnSync(process.execPath, ['boot.js'], { cwd: join(monorepo, name), encoding: 'utf8' }));

  for (const name of workspaces) {
    mkdirSync(join(monorepo, name), { recursive: true });
    writeFileSync(
      join(monorepo, name, 'boot.js'),
      `import 'reflect-metadata';
       import { NestFactory } from '@nestjs/core';
       import { BackgroundTasksModule } from 'nestjs-background-tasks';
       await NestFactory.createApplicationContext(BackgroundTasksModule, { logger: false, abortOnError: false });`,
    );
  }
  writeJson(monorepo, 'package.json', { private: true, workspaces });
  const npm = npmIn(monorepo);

  useNest('one', 11);
  useNest('other', 12);
  npm('install');
  const [failed, ...others] = boot().filter(({ status }) => status !== 0);
  assert.deepEqual(others, []);
  const [quoted] = /^Nest can't resolve dependencies of the … .*$/m.exec(guide);
  const parts = quoted.split('…').map((part) => part.replace(/[()?.[\]]/g, '\\$&'));
  assert.match(failed.stderr, new RegExp(parts.join('.*')));
  // The command of the page shows both.
  assert.match(npm('ls', '@nestjs/core').stdout, /@nestjs\/core@11\.(.|\n)*@nestjs\/core@12\./);

  useNest('one', 12);
  npm('dedupe');
  for (const { status, stderr } of boot()) assert.equal(status, 0, stderr);

  useNest('one', 11);
  const [setting] = /install-strategy=\w+/.exec(guide);
  writeFileSync(join(monorepo, '.npmrc'), setting);
  const installed = ['package-lock.json', ...['.', ...workspaces].map((folder) => join(folder, 'node_modules'))];
  for (const name of installed) rmSync(join(monorepo, name), { recursive: true, force: true });
  npm('install');
  assert.match(npm('ls', '@nestjs/core').stdout, /@nestjs\/core@11\.(.|\n)*@nestjs\/core@12\./);
  for (const { status, stderr } of boot()) assert.equal(status, 0, stderr);
}

/** Saves a file of an application of `nest new` while one of its tasks runs. */
export async function checkWatch(application) {
  const file = join(application, 'src/app.module.ts');
  // Longer than the compiler takes.
  edit(file, 'setTimeout(1_000)', 'setTimeout(8_000)');
  const isPlain = (line) => line.includes('--watch') && !line.includes('--no-shell');
  const commands = guide.replaceAll('\n', ' ').match(/nest start [^`]*/g);
  await watch(application, file, commands.find(isPlain), async (log) => {
    await log.has('EADDRINUSE');
  });
  await watch(
    application,
    file,
    commands.find((line) => line.includes('--no-shell')),
    async (log) => {
      await log.has('successfully started', 2);
      assert.ok(log.text().includes('Notifications'), log.text());
      assert.ok(!log.text().includes('EADDRINUSE'), log.text());
    },
  );
}

async function watch(application, file, command, afterSaving) {
  const port = await freePort();
  const [, ...args] = command.split(' ');
  // A group of its own: the CLI, its shell and the application are stopped together.
  const cli = spawn(process.execPath, ['node_modules/@nestjs/cli/bin/nest.js', ...args], {
    cwd: application,
    env: { ...process.env, PORT: port, NO_COLOR: '1' },
    detached: true,
  });
  try {
    const log = collect(cli);
    await log.has('successfully started');
    // Nest says that it has started, and listens after that.
    const url = `http://127.0.0.1:${port}/send-notification/foo@example.com`;
    execFileSync('curl', ['--silent', '--fail', '--request', 'POST', '--retry', '10', '--retry-connrefused', url]);
    appendFileSync(file, '// Saved.\n');
    await afterSaving(log);
  } finally {
    process.kill(-cli.pid, 'SIGKILL');
    await once(cli, 'exit');
  }
}

function nest(version) {
  return { '@nestjs/common': `^${version}.0.0`, '@nestjs/core': `^${version}.0.0` };
}

function npmIn(cwd) {
  return (command, ...args) =>
    spawnSync('npm', [command, '--prefer-offline', '--no-audit', '--no-fund', ...args], { cwd, shell: true, encoding: 'utf8' });
}

function writeJson(folder, file, content) {
  writeFileSync(join(folder, file), JSON.stringify(content, null, 2));
}
