// Runs specs on the lowest versions that package.json promises, on the lowest Node: `npm run test:lowest`, or `npm run test:lowest test/http` for some
// of them.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import config from '../jest.config.js';

/**
 * Where the package relies on Nest, above all on what Nest does not document. GraphQL has versions of its own, and two copies have two of Nest; the
 * others that are left out take long and show something else.
 */
const SPECS = [
  'test/http/(?!limits|memory)',
  'test/module/(?!transpilers|two-copies)',
  'test/outcome/(?!code-of-others)',
  'test/shutdown',
  'test/transports/(gateways|microservices)',
];

const NEST = [
  'common',
  'core',
  'microservices',
  'platform-express',
  'platform-fastify',
  'platform-socket.io',
  'platform-ws',
  'testing',
  'websockets',
];

/** Packages of Nest whose first version in the range is another than that of `@nestjs/core`. */
const OTHERWISE_NUMBERED = {
  '11.0.0': { '@nestjs/platform-ws': '11.0.5' },
  '12.0.0': {
    '@nestjs/microservices': '12.0.1',
    '@nestjs/platform-fastify': '12.0.1',
    '@nestjs/platform-socket.io': '12.0.1',
    '@nestjs/platform-ws': '12.0.1',
    '@nestjs/websockets': '12.0.1',
  },
};

/** Only later versions of 11 and 12 do this: they boot in an order that shows in refusals and warnings, and cut off files where they fail. */
const LATER = [
  'BackgroundTasks in `providers`',
  'a global enhancer that injects the list',
  'is named at boot, once, with the way that leads there',
  'handlers of @nestjs/cqrs',
  'a file that fails half-way',
];

/** Tests of features that these versions of Nest lack, or that differ there. docs/compatibility.md lists those that users notice. */
const OTHER_IN_NEST = {
  '11.0.0': [
    ...LATER,
    'a module that is loaded lazily on \\w+ adds to the list of the request, with Scope.REQUEST',
    'has put a `destroy` of its own',
  ],
  '12.0.0': [...LATER, 'generator', 'a web Response', 'on Fastify a middleware throws'],
};

/** The first BullMQ 6 that the engine works with. The oldest of all is the jest project `bullmq 5`. */
const BULLMQ = '6.3.3';

const { engines, peerDependencies } = JSON.parse(readFileSync('package.json', 'utf8'));
const paths = process.argv.slice(2);

const [first, second] = lowest('@nestjs/core');
testNest(first, (range) => range.at(0));
testNest(second, (range) => range.at(-1));
if (paths.length === 0 && config.projects.some(({ displayName }) => displayName === 'bullmq 5')) testBullmq();

/** @param choose picks one of the lowest versions of a package that has several ranges */
function testNest(nest, choose) {
  const versions = {
    ...Object.fromEntries(NEST.map((name) => [`@nestjs/${name}`, nest])),
    ...OTHERWISE_NUMBERED[nest],
    ...Object.fromEntries(['@opentelemetry/api', 'reflect-metadata', 'rxjs'].map((name) => [name, choose(lowest(name))])),
  };
  const packages = install(`nest-${nest}`, versions);
  const names = Object.keys(versions).join('|').replaceAll('.', '\\.');
  test(
    // The project `nest 11` leaves out the specs that no version of Nest changes.
    { ...projectOf('nest 11'), displayName: `nest ${nest}` },
    { [`^((?:${names})(?:/.*)?)$`]: `${packages}/$1`, ...projectOf(`nest ${nest.split('.')[0]}`).moduleNameMapper },
    [`--testNamePattern=^(?!.*(?:${OTHER_IN_NEST[nest].join('|') || '$.'}))`, ...(paths.length > 0 ? paths : SPECS)],
  );
}

function testBullmq() {
  const packages = install(`bullmq-${BULLMQ}`, { bullmq: BULLMQ });
  const project = projectOf('bullmq 5');
  test({ ...project, displayName: `bullmq ${BULLMQ}` }, { ...project.moduleNameMapper, '^bullmq$': `${packages}/bullmq` }, [
    'test/engine/engine',
  ]);
}

/** The first version of each part of a range such as `^11.0.0 || ^12.0.0`. */
function lowest(name) {
  return peerDependencies[name].split(' || ').map((range) => /^\^(\d+\.\d+\.\d+)$/.exec(range)[1]);
}

function projectOf(name) {
  return config.projects.find(({ displayName }) => displayName === name);
}

/** Installs packages in a folder of their own; returns where they are. */
function install(name, dependencies) {
  const folder = resolve('node_modules/.cache/lowest', name);
  const installed = join(folder, 'package.json');
  const manifest = JSON.stringify({ private: true, dependencies });
  if (!existsSync(installed) || readFileSync(installed, 'utf8') !== manifest) {
    mkdirSync(folder, { recursive: true });
    writeFileSync(installed, manifest);
    // The first packages of a major of Nest name the one before as their peers.
    run('npm', ['install', '--silent', '--legacy-peer-deps', '--no-audit', '--no-fund'], { cwd: folder });
  }
  return join(folder, 'node_modules');
}

function test(project, moduleNameMapper, args) {
  const rootDir = resolve('.');
  const all = { ...config, rootDir, projects: [{ ...project, rootDir, moduleNameMapper }] };
  run('node', ['scripts/test-on.js', `${/\d+\.\d+/.exec(engines.node)[0]}.0`, '--config', JSON.stringify(all), ...args]);
}

function run(command, args, options) {
  const { status } = spawnSync(command, args, { stdio: 'inherit', ...options });
  if (status !== 0) process.exit(status ?? 1);
}
