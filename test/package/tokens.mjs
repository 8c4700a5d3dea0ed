// One process that both imports and requires the package gets one copy of it.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import * as imported from 'nestjs-background-tasks';

const required = createRequire(import.meta.url)('nestjs-background-tasks');

assert.deepEqual(Object.keys(required).sort(), Object.keys(imported).sort());
for (const [name, value] of Object.entries(imported)) assert.equal(required[name], value, `${name} is there twice`);
