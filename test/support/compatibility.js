// A reporter of jest: after a run of all specs, it compares what ran with the tables of docs/compatibility.md. Each row whose last cell names
// tests, `by the beginning of their names`, says "yes" for the versions of Nest on which at least one of them ran, and all passed.
//
// After any run that passed, it notes the versions that the specs ran on.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { noteTested } from '../../scripts/tested.js';

const PAGE = 'docs/compatibility.md';

export default class CompatibilityReporter {
  #problems = [];

  constructor(globalConfig) {
    this.partial = globalConfig.nonFlagArgs.length > 0 || globalConfig.testNamePattern || globalConfig.onlyChanged || globalConfig.shard;
  }

  onRunComplete(contexts, { numFailedTestSuites, testResults }) {
    if (numFailedTestSuites === 0) for (const { config } of contexts) noteTested(versionsOf(config, testResults));
    if (this.partial) return;
    const tests = testResults.flatMap(({ displayName, testResults: results }) =>
      results.map(({ fullName, status }) => ({ nest: displayName?.name, fullName, status })),
    );
    for (const [row, ...cells] of readFileSync(PAGE, 'utf8').matchAll(/^\|[^|]+\|([^|]+)\|([^|]+)\| *`([^`]+)` *\|$/gm)) {
      const [nest11, nest12, name] = cells.map((cell) => cell.trim());
      for (const [nest, cell] of Object.entries({ 'nest 11': nest11, 'nest 12': nest12 })) {
        // A run of one project alone.
        if (!tests.some((test) => test.nest === nest)) continue;
        const ran = tests.filter((test) => test.nest === nest && test.fullName.startsWith(name));
        const passed = ran.length > 0 && ran.every(({ status }) => status === 'passed');
        if (passed !== cell.startsWith('yes')) {
          this.#problems.push(`${PAGE} says "${cell}" for ${nest}, and ${ran.length} tests ran as "${name}": ${row.trim()}`);
        }
      }
    }
    for (const problem of this.#problems) console.error(problem);
  }

  getLastError() {
    return this.#problems.length > 0 ? new Error(`${PAGE} does not say what the specs ran`) : undefined;
  }
}

/** The versions that the specs of a project ran on. */
function versionsOf({ rootDir, moduleNameMapper, displayName }, testResults) {
  const here = createRequire(join(rootDir, 'package.json'));
  const locate = (name) => {
    for (const [pattern, path] of moduleNameMapper) {
      const match = new RegExp(pattern).exec(name);
      if (match) return path.replace('$1', match[1]);
    }
    return join(rootDir, 'node_modules', name);
  };
  const versionOf = (path) => here(join(path, 'package.json')).version;
  /** The version that a package brings. */
  const versionIn = (name, dependency) => {
    let path = createRequire(join(locate(name), 'package.json')).resolve(dependency);
    while (!path.endsWith(`node_modules/${dependency}`)) path = join(path, '..');
    return versionOf(path);
  };
  const paths = testResults.filter((result) => result.displayName?.name === displayName?.name).map(({ testFilePath }) => testFilePath);
  const versions = { Node: process.versions.node };
  if (paths.some((path) => path.includes('/test/http/'))) {
    Object.assign(versions, {
      Nest: versionOf(locate('@nestjs/core')),
      Express: versionIn('@nestjs/platform-express', 'express'),
      Fastify: versionIn('@nestjs/platform-fastify', 'fastify'),
      rxjs: versionOf(locate('rxjs')),
      'reflect-metadata': versionOf(locate('reflect-metadata')),
    });
  }
  if (paths.some((path) => path.includes('/outcome/opentelemetry'))) versions.OpenTelemetry = versionOf(locate('@opentelemetry/api'));
  if (paths.some((path) => path.includes('/test/engine/engine'))) versions.BullMQ = versionOf(locate('bullmq'));
  return versions;
}
