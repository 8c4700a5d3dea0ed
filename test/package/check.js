// Packs the package and uses it as others do: installed from the tarball, in applications of their own outside the repository.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { noteTested } from '../../scripts/tested.js';
import { checkFirstScreen } from './first-screen.js';
import { checkStarter } from './starter.js';
import { checkMonorepo, checkUnsupportedNest, checkWatch } from './troubleshooting.js';

const installedTypescript = resolve('node_modules/typescript');
const jest = resolve('node_modules/jest/bin/jest.js');
const vitest = resolve('node_modules/vitest/vitest.mjs');
const tsx = resolve('node_modules/tsx/dist/loader.mjs');
const directory = mkdtempSync(join(tmpdir(), 'consumers-'));

/** Bytes of the packed tarball. Raise it when what users get is worth it. */
const SIZE_BUDGET = 256 * 1024;

/** The first that compiles an application, and the newest. */
const OTHER_TYPESCRIPTS = ['5.2.2', '7.0.2'];

/** How TypeScript finds the types of the package: by `module-sync`, by `exports` without that condition, and by `main` alone. */
const RESOLUTIONS = {
  nodenext: [],
  node16: ['--module', 'node16'],
  bundler: ['--module', 'esnext', '--moduleResolution', 'bundler'],
  node10: ['--module', 'commonjs', '--moduleResolution', 'node10', '--ignoreDeprecations', '6.0'],
};

/** Older than the oldest that the engine works with. */
const UNUSED_BULLMQ = '5.41.0';

const tarball = join(directory, `nestjs-background-tasks-${json('package.json').version}.tgz`);

try {
  execFileSync('npm', ['pack', '--silent', '--pack-destination', directory], { shell: true, stdio: ['ignore', 'ignore', 'inherit'] });
  checkTarball();

  const { devDependencies } = json('package.json');
  const { bullmq, ioredis, piscina, '@opentelemetry/api': opentelemetry } = devDependencies;
  const nest12 = install('nest-12', 'module', devDependencies, { bullmq, ioredis });
  for (const file of ['bullmq.ts', 'outbox.ts', 'testing.ts']) copyFileSync(`test/package/${file}`, join(nest12, file));
  const typescripts = [installedTypescript, ...OTHER_TYPESCRIPTS.map(installTypescript)];
  for (const typescript of typescripts) checkTypes(nest12, 'bundler', typescript);
  checkTypes(nest12, 'nodenext');
  compile(nest12);
  check('Nest 12, ES modules: compiles, answers, then runs its tasks', nest12, ['app.js']);
  check('Nest 12, ES modules: the sub-entry for BullMQ starts', nest12, ['bullmq.js']);
  check('Nest 12, ES modules: the sub-entry for an outbox says that its database is away', nest12, ['outbox.js']);
  check('Nest 12, ES modules: the sub-entry for tests runs a task', nest12, ['testing.js']);
  check('Nest 12: import and require give the same tokens', nest12, ['tokens.mjs']);
  copyFileSync('test/package/app.test.ts', join(nest12, 'app.test.ts'));
  check('Nest 12, vitest: waits for tasks, records them, fakes timers', nest12, [vitest, 'run']);
  copyFileSync('test/support/transpiled.app.ts', join(nest12, 'transpiled.app.ts'));
  const decorated = 'parameter of a handler, decorated parameter of a constructor';
  check('Nest 12, tsx: injects where there is a decorator', nest12, ['--import', tsx, 'transpiled.app.ts', decorated]);

  rmSync(join(nest12, 'node_modules/ioredis'), { recursive: true });
  checkFails(
    'Nest 12, ES modules: without a driver, the sub-entry for BullMQ says so at the start',
    nest12,
    ['bullmq.js'],
    'npm install ioredis',
  );

  const [, oldestBullmq] = /^npm:bullmq@(.+)$/.exec(devDependencies['bullmq-5']);
  const nest11 = install('nest-11', 'commonjs', json('test/nest-11/package.json').dependencies, {
    '@opentelemetry/api': opentelemetry,
    bullmq: oldestBullmq,
    piscina,
  });
  for (const file of ['opentelemetry.ts', 'bullmq.ts', 'outbox.ts', 'testing.ts']) copyFileSync(`test/package/${file}`, join(nest11, file));
  for (const typescript of typescripts) checkTypes(nest11, 'node16', typescript);
  // The types of piscina need a later TypeScript than the oldest.
  for (const file of ['count-primes.ts', 'threads.ts']) copyFileSync(`test/package/${file}`, join(nest11, file));
  checkTypes(nest11, 'node10');
  compile(nest11);
  check('Nest 11, CommonJS: compiles, answers, then runs its tasks', nest11, ['app.js']);
  check('Nest 11, CommonJS: the sub-entry for OpenTelemetry starts', nest11, ['opentelemetry.js']);
  check('Nest 11, CommonJS: the sub-entry for BullMQ starts, on the oldest BullMQ', nest11, ['bullmq.js']);
  check('Nest 11, CommonJS: the sub-entry for an outbox says that its database is away', nest11, ['outbox.js']);
  check('Nest 11, CommonJS: the sub-entry for tests runs a task', nest11, ['testing.js']);
  check('Nest 11, CommonJS: a task computes in a thread', nest11, ['threads.js']);
  check('Nest 11: import and require give the same tokens', nest11, ['tokens.mjs']);
  check('Nest 11, Jest in CommonJS mode: answers, then runs its tasks', nest11, [jest, '--silent', '--rootDir', nest11]);

  const unused = install('unused-bullmq', 'commonjs', json('test/nest-11/package.json').dependencies, { bullmq: UNUSED_BULLMQ });
  copyFileSync('test/package/bullmq.ts', join(unused, 'bullmq.ts'));
  compile(unused);
  check('Nest 11, CommonJS: installs and runs beside an older BullMQ that it does not use', unused, ['app.js']);
  checkFails('Nest 11, CommonJS: the sub-entry for BullMQ says that it is too old', unused, ['bullmq.js'], 'needs BullMQ 5.64.0 or later');

  checkUnsupportedNest(join(directory, 'nest-10'), tarball);
  console.log('ok  npm refuses Nest 10 with ERESOLVE, and takes the package with Nest 11');
  checkMonorepo(join(directory, 'monorepo'), tarball);
  console.log(
    'ok  a monorepo with Nest 11 and 12: one application fails at the start, and none with a single version or a nested installation',
  );

  await checkStarter(join(directory, 'starter'), tarball);
  console.log('ok  sample/22-starter, on its own: builds, answers, and waits for its task');

  for (const nest of ['12', '11']) {
    await checkFirstScreen(join(directory, `new-${nest}`), nest, tarball);
    console.log(`ok  Nest ${nest}, what \`nest new\` makes: the first screen of the README does what it says`);
    await checkWatch(join(directory, `new-${nest}`, 'first-screen'));
    console.log('ok  nest start --watch starts the next application too early, and after the tasks with --no-shell:', `Nest ${nest}`);
  }
} finally {
  rmSync(directory, { recursive: true, force: true });
}

/** Checks that the tarball holds what a user needs, and is small. */
function checkTarball() {
  const { size } = statSync(tarball);
  const files = execFileSync('tar', ['-tzf', tarball], { encoding: 'utf8' }).trim().split('\n');
  const expected =
    /^package\/(package\.json|README\.md|LICENSE|CHANGELOG\.md|docs\/[^/]+\.md|dist\/(esm|cjs)\/(package\.json|.+\.(js|d\.ts)))$/;
  assert.deepEqual(
    files.filter((file) => !expected.test(file)),
    [],
    'The tarball holds files that no user needs',
  );
  for (const guide of readdirSync('docs')) {
    if (guide.endsWith('.md')) assert.ok(files.includes(`package/docs/${guide}`), `The tarball lacks docs/${guide}`);
  }
  assert.ok(size <= SIZE_BUDGET, `The tarball has ${size} bytes, and ${SIZE_BUDGET} at most are meant`);
  console.log(`ok  the tarball: ${files.length} files, ${size} bytes of ${SIZE_BUDGET}`);
}

/** Makes an application that depends on the tarball; returns where it is. */
function install(name, type, versions, peers = {}) {
  const application = join(directory, name);
  const nest = ['@nestjs/common', '@nestjs/core', '@nestjs/platform-express', '@nestjs/testing', 'reflect-metadata', 'rxjs'];
  mkdirSync(application);
  write(application, 'package.json', {
    private: true,
    type,
    dependencies: {
      ...Object.fromEntries(nest.map((dependency) => [dependency, versions[dependency]])),
      ...peers,
      'nestjs-background-tasks': `file:${tarball}`,
    },
    jest: { testMatch: ['**/*.jest.cjs'], moduleFileExtensions: ['js', 'cjs', 'json'], transform: {} },
  });
  write(application, 'tsconfig.json', {
    compilerOptions: {
      target: 'es2022',
      module: 'nodenext',
      strict: true,
      experimentalDecorators: true,
      emitDecoratorMetadata: true,
      // The types of piscina import a JSON file.
      resolveJsonModule: true,
      typeRoots: [resolve('node_modules/@types')],
      types: ['node'],
    },
  });
  for (const file of ['app.ts', 'app.jest.cjs', 'tokens.mjs']) copyFileSync(`test/package/${file}`, join(application, file));
  npmInstall(application);
  return application;
}

/** Installs a TypeScript; returns where it is. */
function installTypescript(version) {
  const folder = join(directory, `typescript-${version}`);
  mkdirSync(folder);
  write(folder, 'package.json', { private: true, dependencies: { typescript: version } });
  npmInstall(folder);
  return join(folder, 'node_modules/typescript');
}

function npmInstall(folder) {
  execFileSync('npm', ['install', '--silent', '--prefer-offline', '--no-audit', '--no-fund'], {
    cwd: folder,
    shell: true,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
}

/** Checks that an application compiles, where the types of the package are found in one of several ways. */
function checkTypes(application, resolution, typescript = installedTypescript) {
  compile(application, resolution, typescript, '--noEmit');
  noteTested({ TypeScript: json(join(typescript, 'package.json')).version, moduleResolution: resolution });
}

function compile(application, resolution = 'nodenext', typescript = installedTypescript, ...options) {
  const args = [join(typescript, 'bin/tsc'), '--project', '.', ...RESOLUTIONS[resolution], ...options];
  execFileSync(process.execPath, args, { cwd: application, stdio: 'inherit' });
}

function check(what, application, args) {
  execFileSync(process.execPath, args, { cwd: application, stdio: 'pipe', timeout: 60_000 });
  console.log(`ok  ${what}`);
}

function checkFails(what, application, args, expected) {
  assert.throws(
    () => execFileSync(process.execPath, args, { cwd: application, stdio: 'pipe', timeout: 60_000 }),
    (error) => String(error.stderr).includes(expected),
    what,
  );
  console.log(`ok  ${what}`);
}

function json(file) {
  return JSON.parse(readFileSync(file, 'utf8'));
}

function write(application, file, content) {
  writeFileSync(join(application, file), JSON.stringify(content, null, 2));
}
