// Guarantee 3: with two copies of this package in one process, the tasks of each run once.
import type { ServerResponse } from 'node:http';
import { afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import * as common from '@nestjs/common';
import type { CallHandler, INestApplication, Type } from '@nestjs/common';
import * as core from '@nestjs/core';
import type { AbstractHttpAdapter } from '@nestjs/core';
import * as thePackage from 'nestjs-background-tasks';
import type { BackgroundTasks as List } from 'nestjs-background-tasks';
import * as rxjs from 'rxjs';
import { createApp, isNest12, platforms } from '../support/app.js';
import { type Gate, gate } from '../support/gate.js';
import { addOutcomeTasks } from '../support/outcome-tasks.js';

// A process may hold this package twice: a library brings a version of its own, a bundle has it beside node_modules, or a monorepo two
// versions of Nest. Each copy shortens how Nest runs interceptors. They know nothing of each other, and must not be in each other's way.

type Package = typeof thePackage;

/** The packages that a copy of this package imports: it belongs to one copy of Nest, and of rxjs. */
interface Nest {
  readonly common: typeof common;
  readonly core: typeof core;
  readonly rxjs: typeof rxjs;
}

let ran: string[];
let opened: Gate;

beforeEach(() => {
  ran = [];
  opened = gate();
});

/** Evaluates the package once more, for this Nest. */
async function copyFor(nest: Nest): Promise<Package> {
  const modules = { '@nestjs/common': nest.common, '@nestjs/core': nest.core, rxjs: nest.rxjs };
  jest.resetModules();
  for (const [name, module] of Object.entries(modules)) jest.unstable_mockModule(name, () => module);
  const copy = await import('nestjs-background-tasks');
  for (const name of Object.keys(modules)) jest.unstable_unmockModule(name);
  return copy;
}

/** An application that adds tasks through each of these copies, by the name that it has here. */
function moduleWith(
  { common: { Controller, Get, Module, Res, UseInterceptors }, rxjs: { timeout } }: Nest,
  first: Package,
  second = first,
): Type {
  const add = (one: List, other: List): void => {
    addOutcomeTasks(one, (name) => ran.push(`first: ${name}`));
    if (other !== one) addOutcomeTasks(other, (name) => ran.push(`second: ${name}`));
  };

  @Controller()
  class TasksController {
    @Get('value')
    value(@first.BackgroundTasks() one: List, @second.BackgroundTasks() other: List) {
      add(one, other);
      return 'value';
    }

    @Get('exception')
    exception(@first.BackgroundTasks() one: List, @second.BackgroundTasks() other: List) {
      add(one, other);
      throw new Error('handler');
    }

    @Get('given-up')
    @UseInterceptors({ intercept: (_context: unknown, next: CallHandler) => next.handle().pipe(timeout(1)) })
    async givenUp(@first.BackgroundTasks() one: List, @second.BackgroundTasks() other: List) {
      add(one, other);
      await opened.opened;
      ran.push('handler ended');
    }

    @Get('cut-off')
    cutOff(
      @Res() response: ServerResponse & { raw?: ServerResponse },
      @first.BackgroundTasks() one: List,
      @second.BackgroundTasks() other: List,
    ) {
      add(one, other);
      const { raw = response } = response;
      raw.write('first');
      setImmediate(() => raw.destroy());
    }
  }

  @Module({ imports: [...new Set([first.BackgroundTasksModule, second.BackgroundTasksModule])], controllers: [TasksController] })
  class TasksModule {}
  return TasksModule;
}

const answerOf = (url: string): Promise<string> =>
  fetch(url)
    .then((response) => response.text())
    .catch(() => 'cut off');

const outcomes: [string, string[]][] = [
  ['/value', ['success', 'always']],
  ['/exception', ['failure', 'always']],
  ['/cut-off', ['failure', 'always']],
];

describe.each(platforms)('two copies of this package in one application on %s', (platform) => {
  let copy: Package;
  beforeAll(async () => {
    copy = await copyFor({ common, core, rxjs });
  });

  async function start() {
    const { app, url } = await createApp(platform, moduleWith({ common, core, rxjs }, thePackage, copy));
    const onIdle = () => Promise.all([thePackage, copy].map(({ BackgroundTasksRunner }) => app.get(BackgroundTasksRunner).onIdle()));
    return { url, onIdle };
  }

  it.each(outcomes)('run the tasks of each once, by the same outcome: %s', async (path, expected) => {
    const { url, onIdle } = await start();
    await answerOf(url + path);
    await onIdle();
    for (const which of ['first', 'second']) {
      expect(ran.filter((line) => line.startsWith(which))).toEqual(expected.map((name) => `${which}: ${name}`));
    }
  });

  it('both wait for a handler that an interceptor has given up', async () => {
    const { url, onIdle } = await start();
    await answerOf(`${url}/given-up`);
    expect(ran).toEqual([]);
    opened.open();
    await onIdle();
    expect(ran[0]).toBe('handler ended');
    expect(ran.slice(1).sort()).toEqual(['first: always', 'first: failure', 'second: always', 'second: failure']);
  });
});

// The Nest of this run is 12: the other way round, Jest would give Nest 12 parts of Nest 11.
if (isNest12) {
  describe.each(platforms)('Nest 11 and 12 in one process, each with a copy of this package, on %s', (platform) => {
    let nest: Nest;
    let adapters: Record<string, new () => AbstractHttpAdapter>;
    let copy: Package;
    let eleven: INestApplication | undefined;

    beforeAll(async () => {
      const load = (name: string): Promise<unknown> => import(`../nest-11/node_modules/${name}/index.js`);
      nest = { common: await load('@nestjs/common'), core: await load('@nestjs/core'), rxjs: await load('rxjs/dist/cjs') } as Nest;
      adapters = (await load(`@nestjs/platform-${platform.toLowerCase()}`)) as typeof adapters;
      copy = await copyFor(nest);
      expect(nest.core.NestFactory).not.toBe(core.NestFactory);
    });

    afterEach(async () => {
      await eleven?.close();
      eleven = undefined;
    });

    async function startBoth() {
      eleven = await nest.core.NestFactory.create(moduleWith(nest, copy), new adapters[`${platform}Adapter`]!(), { logger: false });
      await eleven.listen(0, '127.0.0.1');
      const twelve = await createApp(platform, moduleWith({ common, core, rxjs }, thePackage));
      const runners = [eleven.get(copy.BackgroundTasksRunner), twelve.runner];
      return { urls: [await eleven.getUrl(), twelve.url], onIdle: () => Promise.all(runners.map((runner) => runner.onIdle())) };
    }

    it.each(outcomes)('run their tasks once, by their outcome: %s', async (path, expected) => {
      const { urls, onIdle } = await startBoth();
      for (const url of urls) {
        ran = [];
        await answerOf(url + path);
        await onIdle();
        expect(ran).toEqual(expected.map((name) => `first: ${name}`));
      }
    });

    it('wait for a handler that an interceptor has given up', async () => {
      const { urls, onIdle } = await startBoth();
      for (const url of urls) await answerOf(`${url}/given-up`);
      expect(ran).toEqual([]);
      opened.open();
      await onIdle();
      expect(ran.filter((line) => line === 'handler ended')).toHaveLength(2);
      expect(ran.filter((line) => line === 'first: failure')).toHaveLength(2);
    });
  });
}
