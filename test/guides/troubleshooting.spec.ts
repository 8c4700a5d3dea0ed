// Guide: docs/troubleshooting.md, each message and each cure that it quotes: troubleshooting-map.spec.ts says which, and what other specs
// show.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, type IncomingMessage, type Server, get } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import * as common from '@nestjs/common';
import {
  type CanActivate,
  Controller,
  Get,
  Injectable,
  Module,
  type OnModuleInit,
  Param,
  Res,
  Scope,
  type Type,
  UseGuards,
} from '@nestjs/common';
import type * as core from '@nestjs/core';
import { APP_GUARD } from '@nestjs/core';
import { AuthGuard, PassportStrategy } from '@nestjs/passport';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { Test } from '@nestjs/testing';
import {
  BackgroundTask,
  BackgroundTasks,
  BackgroundTasksModule,
  type BackgroundTasksRootOptions,
  BackgroundTasksRunner,
  currentTask,
} from 'nestjs-background-tasks';
import type { BackgroundTasks as ImportedAsType } from 'nestjs-background-tasks';
import { type Options as SwcOptions, transform as swc } from '@swc/core';
import ts from 'typescript';
import { adapterOf, createApp, isNest12, platforms } from '../support/app.js';
import { type Gate, gate } from '../support/gate.js';
import { Recorder } from '../support/recorder.js';
import { turns } from '../support/turns.js';

const guide = readFileSync('docs/troubleshooting.md', 'utf8');

const compile = (imports: (typeof BackgroundTasksModule)[], ...providers: Type[]) =>
  Test.createTestingModule({ imports, providers }).compile();

const decorators = { experimentalDecorators: true, emitDecoratorMetadata: true, target: ts.ScriptTarget.ES2022 };
const swcOptions: SwcOptions = {
  swcrc: false,
  jsc: {
    parser: { syntax: 'typescript', decorators: true },
    transform: { legacyDecorator: true, decoratorMetadata: true },
    target: 'es2022',
  },
  module: { type: 'commonjs' },
};

/** Runs what a compiler made, with the modules of this spec. */
function evaluate(compiled: string): Record<string, Type> {
  const exported = {};
  const modules: Record<string, unknown> = { '@nestjs/common': common, 'nestjs-background-tasks': { BackgroundTasks } };
  // oxlint-disable-next-line typescript/no-implied-eval -- it is the output of a compiler
  new Function('require', 'exports', compiled)((name: string) => modules[name], exported);
  return exported;
}

/** Runs one rule over a file; returns its errors, and the file with its corrections. */
function lint(rule: string, source: string, option: string) {
  const directory = mkdtempSync(join(tmpdir(), `${rule}-`));
  const files: Record<string, string> = {
    '.oxlintrc.json': `{ "plugins": ["typescript"], "categories": { "correctness": "off" }, "rules": { "typescript/${rule}": "error" } }`,
    'tsconfig.json': '{ "compilerOptions": { "strict": true, "target": "es2022", "module": "nodenext" } }',
    'users.ts': source,
  };
  for (const [name, text] of Object.entries(files)) writeFileSync(join(directory, name), text);
  const { stdout } = spawnSync('npx', ['oxlint', option, '--format', 'json', '-c', join(directory, '.oxlintrc.json'), directory], {
    encoding: 'utf8',
  });
  const fixed = readFileSync(join(directory, 'users.ts'), 'utf8');
  rmSync(directory, { recursive: true });
  const { diagnostics } = JSON.parse(stdout) as { diagnostics: { message: string; labels: { span: { line: number } }[] }[] };
  return { diagnostics, fixed };
}

describe('docs/troubleshooting.md', () => {
  it('quotes the error of Nest for a list that is imported as a type', async () => {
    @Injectable()
    class QueryLog {
      constructor(readonly tasks: ImportedAsType) {}
    }

    const error = await compile([BackgroundTasksModule], QueryLog).catch((reason: unknown) => reason);
    expect(guide).toContain((error as Error).message.split('\n')[0]);
  });

  it('quotes the error of Nest for a list that is imported as a type, compiled by tsc', async () => {
    const source = `
      import { Injectable } from '@nestjs/common';
      import type { BackgroundTasks } from 'nestjs-background-tasks';
      @Injectable()
      export class QueryLog {
        constructor(readonly tasks: BackgroundTasks) {}
      }`;
    const { QueryLog } = evaluate(ts.transpile(source, { ...decorators, module: ts.ModuleKind.CommonJS }));
    const error = await compile([BackgroundTasksModule], QueryLog!).catch((reason: unknown) => reason);
    expect(guide).toContain((error as Error).message.split('\n')[0]);
  });

  it.each<[string, (source: string) => Promise<string>]>([
    ['tsc', async (source) => ts.transpile(source, { ...decorators, strict: true, module: ts.ModuleKind.CommonJS })],
    ['SWC', async (source) => (await swc(source, swcOptions)).code],
  ])('quotes the error of Nest for a list that may be undefined, compiled by %s', async (_, transpile) => {
    const { QueryLog } = evaluate(
      await transpile(`
        import { Injectable } from '@nestjs/common';
        import { BackgroundTasks } from 'nestjs-background-tasks';
        @Injectable()
        export class QueryLog {
          constructor(readonly tasks: BackgroundTasks | undefined) {}
        }`),
    );
    const error = await compile([BackgroundTasksModule], QueryLog!).catch((reason: unknown) => reason);
    expect(guide).toContain((error as Error).message.split('\n')[0]);
  });

  it('quotes the error for the decorator of a method on a parameter, and the cure works', () => {
    class UsersController {
      signUp(): void {}
    }

    const decorateWith = (decorator: unknown) => (decorator as ParameterDecorator)(UsersController.prototype, 'signUp', 0);
    let said: unknown;
    try {
      decorateWith(BackgroundTask());
    } catch (error) {
      said = (error as Error).message;
    }
    expect(guide).toContain(said);
    decorateWith(BackgroundTasks());
  });

  it('quotes the error for an option that is a string, and the cure works', async () => {
    const configured = (concurrency: unknown) => compile([BackgroundTasksModule.forRoot({ concurrency: concurrency as number }) as never]);
    const error = await configured('5').catch((reason: unknown) => reason);
    expect(guide).toContain((error as Error).message);
    await configured(Number('5'));
  });

  it('quotes the error of Nest for a list that no module provides', async () => {
    @Injectable()
    class QueryLog {
      constructor(readonly tasks: BackgroundTasks) {}
    }

    const error = await compile([], QueryLog).catch((reason: unknown) => reason);
    const [firstLine] = (error as Error).message.split(' is available in');
    expect(guide).toContain(firstLine!);
  });

  // The Nest of this run is 12: the other way round, Jest would give Nest 12 parts of Nest 11.
  if (isNest12) {
    it('quotes the error of Nest for a package that finds another copy of Nest', async () => {
      const { NestFactory }: typeof core = await import('../nest-11/node_modules/@nestjs/core/index.js' as string);
      const options = { logger: false, abortOnError: false } as const;
      const error: unknown = await NestFactory.createApplicationContext(BackgroundTasksModule, options).catch((reason: unknown) => reason);
      const [quoted] = guide.split("## Nest can't resolve dependencies … ModulesContainer")[1]!.match(/^Nest can't.*$/m)!;
      const pattern = quoted.split('…').map((part) => part.replace(/[()?.[\]]/g, '\\$&'));
      expect((error as Error).message).toMatch(new RegExp(pattern.join('.*')));
    });
  }

  it.each([
    ['imported like the list', 'import { Address }', true],
    ['imported as a type, which is the cure', 'import type { Address }', false],
  ])('quotes TS1272, the error of tsc for another type of the signature: %s', (_title, importOf, isWrong) => {
    const files: Record<string, string> = {
      'address.ts': 'export interface Address { city: string }',
      'users.ts': `
        ${importOf} from './address.js';
        declare const Post: () => MethodDecorator;
        export class Users { @Post() signUp(address: Address) { return address; } }`,
    };
    const options: ts.CompilerOptions = {
      experimentalDecorators: true,
      emitDecoratorMetadata: true,
      isolatedModules: true,
      target: ts.ScriptTarget.ES2022,
      module: ts.ModuleKind.NodeNext,
      types: [],
    };
    const host = ts.createCompilerHost(options);
    const { getSourceFile, fileExists } = host;
    host.getCurrentDirectory = () => '/';
    host.fileExists = (name) => name.replace('/', '') in files || fileExists(name);
    host.getSourceFile = (name, ...others) => {
      const source = files[name.replace('/', '')];
      return source === undefined ? getSourceFile(name, ...others) : ts.createSourceFile(name, source, others[0]);
    };
    const program = ts.createProgram(['/users.ts'], options, host);
    const errors = program.getSemanticDiagnostics(program.getSourceFile('/users.ts'));
    expect(errors.map(({ code }) => code)).toEqual(isWrong ? [1272] : []);
    for (const { messageText } of errors) expect(guide).toContain(ts.flattenDiagnosticMessageText(messageText, '\n'));
  });

  // The rules of oxlint are ports of those of typescript-eslint, with their messages.
  it('quotes the error of the rule unbound-method, and both cures silence it', () => {
    const disabling = guide.match(/^\/\/ eslint-disable-next-line .*$/m)![0];
    const source = `
        declare class Mail { send(to: string): void }
        declare function addTask(func: (to: string) => unknown, to: string): void;
        export class Users {
          constructor(private readonly mail: Mail) {}
          bare(to: string) { addTask(this.mail.send, to) }
          closure(to: string) { addTask((to) => this.mail.send(to), to) }
          disabled(to: string) {
            ${disabling}
            addTask(this.mail.send, to);
          }
        }`;
    const { diagnostics } = lint('unbound-method', source, '--type-aware');
    expect(diagnostics).toHaveLength(1);
    expect(guide).toContain(diagnostics[0]!.message);
    expect(diagnostics[0]!.labels[0]!.span.line).toBe(6);
  });

  it('is right that the rule consistent-type-imports makes an import of a type out of one of a value', () => {
    const [, rule] = guide.match(/lint rule\s`(.*)`\srewrites/)!;
    const source = `
      import { BackgroundTasks } from 'nestjs-background-tasks';
      export class QueryLog { constructor(readonly tasks: BackgroundTasks) {} }`;
    expect(lint(rule!, source, '--fix').fixed).toContain('import type { BackgroundTasks }');
  });

  it('quotes the error of Nest for app.get(BackgroundTasks), and the cure works', async () => {
    const testingModule = await compile([BackgroundTasksModule]);
    await testingModule.get(BackgroundTasksRunner).onIdle();
    let said: unknown;
    try {
      testingModule.get(BackgroundTasks);
    } catch (error) {
      said = (error as Error).message;
    }
    expect(guide).toContain(said);
  });

  it('is right that Nest calls no onModuleInit() of a request-scoped provider, and that Scope.DEFAULT cures it', async () => {
    const called: string[] = [];

    @Injectable()
    class Search implements OnModuleInit {
      constructor(readonly tasks: BackgroundTasks) {}

      onModuleInit(): void {
        called.push('onModuleInit');
      }
    }

    await (await compile([BackgroundTasksModule], Search)).init();
    expect(called).toEqual([]);
    await (
      await Test.createTestingModule({ imports: [BackgroundTasksModule.forRoot({ scope: Scope.DEFAULT })], providers: [Search] }).compile()
    ).init();
    expect(called).toEqual(['onModuleInit']);
  });
});

describe.each(platforms)('docs/troubleshooting.md on %s', (platform) => {
  class AlwaysStrategy {
    declare success: (user: unknown) => void;
    authenticate(): void {
      this.success({ id: 1 });
    }
  }

  // Passport keeps the strategies of the process.
  const name = `jwt ${platform}`;

  @Injectable()
  class JwtStrategy extends PassportStrategy(AlwaysStrategy, name) {
    constructor(readonly tasks: BackgroundTasks) {
      super();
    }

    validate(): void {}
  }

  @Controller()
  class ProfileController {
    @Get()
    @UseGuards(AuthGuard(name))
    profile() {
      return 'me';
    }
  }

  function moduleWith(scope: Scope.REQUEST | Scope.DEFAULT): Type {
    @Module({ imports: [BackgroundTasksModule.forRoot({ scope })], controllers: [ProfileController], providers: [JwtStrategy] })
    class AppModule {}
    return AppModule;
  }

  it('quotes the error of Node for an application that starts before the last one has ended its tasks, and the cure works', async () => {
    const opened = gate();

    @Controller()
    class SlowController {
      @Get()
      get(@BackgroundTasks() tasks: BackgroundTasks) {
        tasks.addTask(() => opened.opened);
        return 'answer';
      }
    }

    @Module({ imports: [BackgroundTasksModule], controllers: [SlowController] })
    class SlowModule {}

    const before = await createApp(platform, SlowModule);
    await before.http.get('/').expect(200);
    const closed = before.app.close();
    const { port } = new URL(before.url);
    const startAgain = () => createApp(platform, SlowModule, { port });
    const error: unknown = await startAgain().catch((reason: unknown) => reason);
    expect(guide).toContain(`${String(error).split(' 127.0.0.1')[0]} …`);
    opened.open();
    await closed;
    await (await startAgain()).http.get('/').expect(200, 'answer');
  });

  it('quotes the error of a handler whose parameter lacks its decorator, and the cure works', async () => {
    @Controller()
    class SignUpController {
      @Get('undecorated/:id')
      undecorated(@Param('id') id: string, tasks: BackgroundTasks) {
        tasks.addTask(() => id);
      }

      @Get('decorated/:id')
      decorated(@Param('id') id: string, @BackgroundTasks() tasks: BackgroundTasks) {
        tasks.addTask(() => id);
      }
    }

    @Module({ imports: [BackgroundTasksModule], controllers: [SignUpController] })
    class SignUpModule {}

    const { http, logs } = await createApp(platform, SignUpModule);
    const logged = jest.spyOn(logs, 'error');
    await http.get('/undecorated/1').expect(500);
    expect(guide).toContain(`## ${(logged.mock.calls[0]![0] as Error).message}`);
    await http.get('/decorated/1').expect(200);
  });

  it('quotes the error of a task that is a method without its `this`, and the cure works', async () => {
    @Injectable()
    class Mail {
      readonly sent: string[] = [];

      send(to: string): void {
        this.sent.push(to);
      }
    }

    @Controller()
    class SignUpController {
      constructor(private readonly mail: Mail) {}

      @Get('method')
      method(@BackgroundTasks() tasks: BackgroundTasks) {
        // oxlint-disable-next-line typescript/unbound-method -- the mistake
        tasks.addTask(this.mail.send, 'foo@example.com');
      }

      @Get('arrow')
      arrow(@BackgroundTasks() tasks: BackgroundTasks) {
        tasks.addTask((to) => this.mail.send(to), 'foo@example.com');
      }
    }

    @Module({ imports: [BackgroundTasksModule], controllers: [SignUpController], providers: [Mail] })
    class SignUpModule {}

    const { app, http, runner, logs } = await createApp(platform, SignUpModule);
    await http.get('/method').expect(200);
    await runner.onIdle();
    const [said] = /Cannot read properties of undefined/.exec(logs.of('error')[0]!)!;
    expect(guide).toContain(`## ${said} in a task\n`);
    expect(app.get(Mail).sent).toEqual([]);
    await http.get('/arrow').expect(200);
    await runner.onIdle();
    expect(app.get(Mail).sent).toEqual(['foo@example.com']);
  });

  it('is right that each attempt adds its tasks, unless it has a list of its own', async () => {
    const sent: string[] = [];

    @Controller()
    class OrdersController {
      constructor(private readonly runner: BackgroundTasksRunner) {}

      @Get('one-list')
      oneList(@BackgroundTasks() tasks: BackgroundTasks) {
        return tryAgain(async () => this.#order(tasks, 'one list'));
      }

      @Get('own-list')
      ownList() {
        return tryAgain(() => this.runner.within((tasks) => this.#order(tasks, 'own list')));
      }

      #attempts = 0;

      #order(tasks: Pick<BackgroundTasks, 'addTask'>, list: string): void {
        tasks.addTask(() => sent.push(list));
        if (++this.#attempts % 2) throw new Error('lost to another');
      }
    }

    async function tryAgain(attempt: () => Promise<void>): Promise<void> {
      await attempt().catch(attempt);
    }

    @Module({ imports: [BackgroundTasksModule], controllers: [OrdersController] })
    class OrdersModule {}

    const { http, runner } = await createApp(platform, OrdersModule);
    await http.get('/one-list').expect(200);
    await http.get('/own-list').expect(200);
    await runner.onIdle();
    expect(sent.toSorted()).toEqual(['one list', 'one list', 'own list']);
  });

  it('quotes the error at boot for a Passport strategy that injects the list, and the cure works', async () => {
    const error: unknown = await createApp(platform, moduleWith(Scope.REQUEST)).catch((reason: unknown) => reason);
    const [said, path] = (error as Error).message.split(': ');
    expect(guide).toContain(`## ${said!.split(',')[0]}`);
    expect(guide).toContain(said);
    expect(path).toMatch(/^JwtStrategy → BackgroundTasks/);

    await (await createApp(platform, moduleWith(Scope.DEFAULT))).http.get('/').expect(200, 'me');
  });

  it('quotes the error of Nest for a global enhancer that injects the list, and the cure works', async () => {
    @Injectable()
    class RolesGuard implements CanActivate {
      constructor(readonly tasks: BackgroundTasks) {}
      canActivate(): boolean {
        return true;
      }
    }

    function guardedBy(scope: Scope.REQUEST | Scope.DEFAULT): Type {
      @Module({
        imports: [BackgroundTasksModule.forRoot({ scope })],
        controllers: [HomeController],
        providers: [{ provide: APP_GUARD, useClass: RolesGuard }],
      })
      class AppModule {}
      return AppModule;
    }

    @Controller()
    class HomeController {
      @Get()
      home() {
        return 'home';
      }
    }

    const error: unknown = await createApp(platform, guardedBy(Scope.REQUEST)).catch((reason: unknown) => reason);
    expect(guide).toContain((error as Error).message.split('. Mark')[0]);

    await (await createApp(platform, guardedBy(Scope.DEFAULT))).http.get('/').expect(200, 'home');
  });
});

describe.each(platforms)('docs/troubleshooting.md, "Tasks do not start", on %s', (platform) => {
  let ran: string[];
  /** Opens when a handler, or a task, has come to the point where it waits. */
  let waiting: Gate;
  /** Lets whatever still waits end. */
  let released: Gate;
  let sendByHand: () => void;

  beforeEach(() => {
    ran = [];
    waiting = gate();
    released = gate();
  });

  const orReleased = (promise: Promise<unknown>): Promise<unknown> => {
    waiting.open();
    return Promise.race([promise, released.opened]);
  };

  @Controller()
  class WaitingController {
    constructor(private readonly runner: BackgroundTasksRunner) {}

    @Get('fails')
    fails(@BackgroundTasks() tasks: BackgroundTasks) {
      tasks.addTask({ name: 'mail' }, () => ran.push('by default'));
      tasks.addTask({ runOn: 'always' }, () => ran.push('always'));
      throw new Error('The handler fails');
    }

    @Get('by-hand')
    byHand(@Res() response: { send(body: string): void }, @BackgroundTasks() tasks: BackgroundTasks) {
      tasks.addTask(() => ran.push('task'));
      sendByHand = () => response.send('by hand');
      waiting.open();
    }

    @Get('task-in-task')
    taskInTask(@BackgroundTasks() tasks: BackgroundTasks) {
      tasks.addTask(async () => {
        await orReleased(this.runner.addTask(() => ran.push('awaited')).ended);
        ran.push('awaits');
      });
    }

    @Get('endless')
    endless(@BackgroundTasks() tasks: BackgroundTasks) {
      tasks.addTask({ name: 'endless' }, () => orReleased(new Promise(() => {})));
    }

    @Get('quick')
    quick(@BackgroundTasks() tasks: BackgroundTasks) {
      tasks.addTask(() => ran.push('quick'));
    }
  }

  function waitingModule(options: BackgroundTasksRootOptions): Type {
    @Module({ imports: [BackgroundTasksModule.forRoot(options)], controllers: [WaitingController] })
    class WaitingModule {}
    return WaitingModule;
  }

  it('quotes the line of a task that was discarded, and `runOn` is the cure', async () => {
    const { http, runner, logs } = await createApp(platform, waitingModule({}));
    await http.get('/fails').expect(500);
    await runner.onIdle();
    const [, verb] = /^Background task "mail" (.*?:) /.exec(logs.of('debug')[0]!)!;
    expect(guide).toContain(`\n| \`… ${verb} …\``);
    expect(ran).toEqual(['always']);
  });

  it('a task waits until a handler that sends by hand has ended the response', async () => {
    const { http, runner } = await createApp(platform, waitingModule({}));
    const answer = http.get('/by-hand').then(({ text }) => text);
    await waiting.opened;
    await turns();
    expect([ran, runner.pendingCount]).toEqual([[], 1]);
    sendByHand();
    expect(await answer).toBe('by hand');
    await runner.onIdle();
    expect(ran).toEqual(['task']);
  });

  it.each([
    ['concurrency 1', 1, []],
    ['concurrency 2, which is the cure', 2, ['awaited', 'awaits']],
  ])('a task that waits for another one never ends if that has no place: %s', async (_, concurrency, expected) => {
    const { http, runner } = await createApp(platform, waitingModule({ concurrency }));
    await http.get('/task-in-task').expect(200);
    await waiting.opened;
    await turns();
    expect(ran).toEqual(expected);
    released.open();
    await runner.onIdle();
    expect(ran.toSorted()).toEqual(['awaited', 'awaits']);
  });

  it.each<[string, BackgroundTasksRootOptions, string[]]>([
    ['nothing else starts', { concurrency: 1 }, []],
    ['unless it has a timeout', { concurrency: 1, timeout: 20 }, ['quick']],
    ['unless there are more places', { concurrency: 2 }, ['quick']],
  ])('a task that never ends keeps its place: %s', async (_, options, expected) => {
    const { http, runner, logs } = await createApp(platform, waitingModule(options));
    await http.get('/endless').expect(200);
    await waiting.opened;
    await http.get('/quick').expect(200);
    if (options.timeout) await runner.onIdle();
    await turns();
    expect([ran, runner.activeCount]).toEqual([expected, options.timeout ? 0 : 1]);
    expect(logs.of('error')).toHaveLength(options.timeout ? 1 : 0);
    released.open();
    await runner.onIdle();
    expect(ran).toEqual(['quick']);
  });
});

describe('docs/troubleshooting.md, "Tasks are lost at SIGTERM"', () => {
  let pid: number | undefined;

  afterEach(() => {
    try {
      if (pid) process.kill(pid, 'SIGKILL');
    } catch {
      // It has ended.
    }
  });

  /** Sends SIGTERM to a program whose task has begun; returns what it says from then on. */
  async function terminate(how: string, shell?: string): Promise<string[]> {
    const args = ['--import', './test/support/typescript.js', './test/support/signals.app.ts', how];
    const env = { ...process.env, NODE_OPTIONS: '', NEST: isNest12 ? '12' : '11' };
    const program = shell
      ? spawn('sh', ['-c', shell, process.execPath, ...args], { env, stdio: ['pipe', 'pipe', 'inherit'] })
      : spawn(process.execPath, args, { env, stdio: ['pipe', 'pipe', 'inherit'] });
    const lines = new Recorder<string>();
    createInterface(program.stdout).on('line', (line) => lines.add(line));
    const [listening] = await lines.atLeast(1);
    const [url, id] = listening!.split(' ');
    pid = Number(id);
    expect((await fetch(url!, { method: 'POST' })).status).toBe(201);
    await lines.containing('task began');
    const ended = shell ? Promise.all([once(program, 'exit'), lines.containing('task ended')]) : once(program, 'close');
    program.kill('SIGTERM');
    if (how === 'with shutdown hooks' && !shell) {
      await lines.containing('closing');
      program.stdin.end();
    }
    // The input of a process that has ended is over, too: that of the application behind a shell, once the shell has gone.
    await ended;
    return lines.all.slice(lines.all.indexOf('task began') + 1);
  }

  it('the process waits for tasks with shutdown hooks alone, and not if something else ends it', async () => {
    expect(await terminate('with shutdown hooks')).toEqual(['closing', 'task ended']);
    expect(await terminate('without them')).toEqual([]);
    expect(await terminate('with process.exit()')).toEqual([]);
  });

  it('a shell may keep the signal to itself: the application goes on, and does not know', async () => {
    expect(await terminate('with shutdown hooks', '"$0" "$@"; exit')).toEqual(['task ended']);
  });
});

describe.each(platforms)('docs/troubleshooting.md, "A shutdown takes its whole time", on %s', (platform) => {
  it('a task that waits for `runner.closing` ends as the shutdown begins, and one that waits for its own signal at the deadline', async () => {
    const ended: string[] = [];

    @Controller()
    class WaitingController {
      constructor(private readonly runner: BackgroundTasksRunner) {}

      @Get('closing')
      closing(@BackgroundTasks() tasks: BackgroundTasks) {
        tasks.addTask(() => this.#waitFor(this.runner.closing, 'closing'));
      }

      @Get('signal')
      signal(@BackgroundTasks() tasks: BackgroundTasks) {
        tasks.addTask({ name: 'signal' }, () => this.#waitFor(currentTask()!.signal, 'signal'));
      }

      async #waitFor(signal: AbortSignal, name: string): Promise<void> {
        await once(signal, 'abort');
        ended.push(name);
      }
    }

    @Module({ imports: [BackgroundTasksModule.forRoot({ shutdownTimeout: 20 })], controllers: [WaitingController] })
    class WaitingModule {}

    const { app, http, logs } = await createApp(platform, WaitingModule);
    for (const path of ['signal', 'closing']) await http.get(`/${path}`).expect(200);
    await app.close();
    expect(ended).toEqual(['closing', 'signal']);
    expect(logs.of('error')).toEqual([expect.stringMatching(/^Background task "signal" was aborted/)]);
  });

  it.each([
    ['by default', false],
    ['but not with forceCloseConnections, which is the cure', true],
  ])('the connection of a request that was at work at the deadline holds up the end: %s', async (_, forceCloseConnections) => {
    const entered = gate();
    const held = gate();

    @Controller()
    class SlowController {
      @Get()
      async get() {
        entered.open();
        await held.opened;
      }
    }

    @Module({ imports: [BackgroundTasksModule.forRoot({ shutdownTimeout: 20 })], controllers: [SlowController] })
    class SlowModule {}

    const testingModule = await Test.createTestingModule({ imports: [SlowModule] }).compile();
    // The Fastify adapter of Nest 11 ignores the option of Nest.
    const adapter = platform === 'Fastify' && !isNest12 ? new FastifyAdapter({ forceCloseConnections }) : adapterOf(platform);
    const app = testingModule.createNestApplication(adapter, { logger: false, forceCloseConnections });
    await app.listen(0, '127.0.0.1');
    const server: Server & { keepAliveTimeout: number } = app.getHttpServer();
    if (platform === 'Fastify') expect(guide).toMatch(new RegExp(`up to ${server.keepAliveTimeout / 1_000}\\s+seconds`));

    const agent = new Agent({ keepAlive: true });
    try {
      const request = get(await app.getUrl(), { agent });
      const answered = once(request, 'response').then(
        ([response]: IncomingMessage[]) => once(response!.resume(), 'end').then(() => 'answered'),
        (error: Error) => error.message,
      );
      await entered.opened;
      let closed = false;
      const closing = app.close().then(() => (closed = true));
      while (server.listening) await turns();
      held.open();
      if (forceCloseConnections) {
        expect(await answered).toBe('socket hang up');
      } else {
        expect(await answered).toBe('answered');
        await turns();
        expect(closed).toBe(false);
        agent.destroy();
      }
      await closing;
    } finally {
      agent.destroy();
    }
  });
});
