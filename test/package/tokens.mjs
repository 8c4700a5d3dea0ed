// One process that both imports and requires the package gets one copy of it.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import * as imported from 'nestjs-background-tasks';

const require = createRequire(import.meta.url);
const required = require('nestjs-background-tasks');

assert.deepEqual(Object.keys(required).sort(), Object.keys(imported).sort());
for (const [name, value] of Object.entries(imported)) assert.equal(required[name], value, `${name} is there twice`);

// Where there are two copies all the same, an error of the one is one of the other.
const dist = join(dirname(require.resolve('nestjs-background-tasks/package.json')), 'dist');
const [esm, cjs] = [await import(pathToFileURL(join(dist, 'esm', 'index.js')).href), require(join(dist, 'cjs', 'index.js'))];
assert.notEqual(esm.BackgroundTasksError, cjs.BackgroundTasksError);
for (const [thrown, caught] of [
  [esm, cjs],
  [cjs, esm],
]) {
  assert(new thrown.BackgroundTasksOverflowError('mail', 1) instanceof caught.BackgroundTasksError);
  assert(new thrown.BackgroundTasksTimeoutError('mail', 1) instanceof caught.BackgroundTasksError);
}
