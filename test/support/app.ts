import { afterEach } from '@jest/globals';
import * as common from '@nestjs/common';
import type { DynamicModule, INestApplication, LoggerService, Type } from '@nestjs/common';
import type { AbstractHttpAdapter } from '@nestjs/core';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { Test, type TestingModuleBuilder } from '@nestjs/testing';
import { BackgroundTasksRunner } from 'nestjs-background-tasks';
import supertest from 'supertest';
import { Recorder } from './recorder.js';

export const platforms = ['Express', 'Fastify'] as const;
export type Platform = (typeof platforms)[number];

/** True in the run against Nest 12. */
export const isNest12 = 'StandardSchemaValidationPipe' in common;

/** From Node 24 on, entering an `AsyncLocalStorage` costs no promise anything. */
export const isNode24 = Number.parseInt(process.versions.node, 10) >= 24;

/** An application that listens, with what a spec needs to drive it. */
export interface TestApp {
  readonly app: INestApplication;
  readonly http: ReturnType<typeof supertest>;
  readonly url: string;
  readonly runner: BackgroundTasksRunner;
  readonly logs: RecordedLogs;
}

export interface TestAppOptions {
  /** In the place of the platform's plain adapter. */
  adapter?: AbstractHttpAdapter;
  /** True if SIGTERM closes the application. Otherwise its first task warns. @default true */
  hearsSignals?: boolean;
  /** In the place of a free one. */
  port?: string;
  /** Between `compile()` and the application: overrides. */
  build?(builder: TestingModuleBuilder): void;
  /** Between the application and `listen()`: global pipes, prefixes and the like. */
  configure?(app: INestApplication): void;
}

const open: INestApplication[] = [];

afterEach(async () => {
  await Promise.all(open.splice(0).map((app) => app.close()));
});

export function adapterOf(platform: Platform): AbstractHttpAdapter {
  return platform === 'Express' ? new ExpressAdapter() : new FastifyAdapter();
}

/** Serves a module on a port of 127.0.0.1, until the test ends. */
export async function createApp(
  platform: Platform,
  module: Type | DynamicModule,
  { adapter = adapterOf(platform), hearsSignals = true, port = '0', build, configure }: TestAppOptions = {},
): Promise<TestApp> {
  const builder = Test.createTestingModule({ imports: [module] });
  build?.(builder);
  const logs = new RecordedLogs();
  const testingModule = await builder.setLogger(logs).compile();
  const app = testingModule.createNestApplication(adapter, { logger: logs });
  if (hearsSignals) app.enableShutdownHooks(['SIGTERM']);
  configure?.(app);
  await app.listen(port, '127.0.0.1');
  open.push(app);
  const url = (await app.getUrl()).replace('[::1]', '127.0.0.1');
  return {
    app,
    http: supertest(url),
    url,
    get runner() {
      return app.get(BackgroundTasksRunner);
    },
    logs,
  };
}

/** A logger that keeps what this package logs. */
export class RecordedLogs implements LoggerService {
  readonly #recorder = new Recorder<{ level: string; message: string; stack?: string | undefined }>();
  readonly lines = this.#recorder.all;

  fatal(): void {}
  verbose(): void {}
  error(message: unknown, ...rest: unknown[]): void {
    this.#record('error', message, rest);
  }
  warn(message: unknown, ...rest: unknown[]): void {
    this.#record('warn', message, rest);
  }
  log(message: unknown, ...rest: unknown[]): void {
    this.#record('log', message, rest);
  }
  debug(message: unknown, ...rest: unknown[]): void {
    this.#record('debug', message, rest);
  }

  /** Resolves once a line has this text. */
  async saying(text: string): Promise<void> {
    while (!this.lines.some(({ message }) => message.includes(text))) await this.#recorder.atLeast(this.lines.length + 1);
  }

  of(level: 'error' | 'warn' | 'log' | 'debug'): string[] {
    return this.lines.filter((line) => line.level === level).map((line) => line.message);
  }

  #record(level: string, message: unknown, rest: unknown[]): void {
    if (rest.at(-1) !== 'BackgroundTasks') return;
    this.#recorder.add({ level, message: String(message), stack: rest.length > 1 && rest[0] !== undefined ? String(rest[0]) : undefined });
  }
}
