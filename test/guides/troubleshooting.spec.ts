// Guide: docs/troubleshooting.md, each message and each cure that it quotes.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, jest } from '@jest/globals';
import * as common from '@nestjs/common';
import {
  type CanActivate,
  Controller,
  Get,
  Injectable,
  Module,
  type OnModuleInit,
  Param,
  Scope,
  type Type,
  UseGuards,
} from '@nestjs/common';
import type * as core from '@nestjs/core';
import { APP_GUARD } from '@nestjs/core';
import { AuthGuard, PassportStrategy } from '@nestjs/passport';
import { Test } from '@nestjs/testing';
import { BackgroundTask, BackgroundTasks, BackgroundTasksModule } from 'nestjs-background-tasks';
import type { BackgroundTasks as ImportedAsType } from 'nestjs-background-tasks';
import ts from 'typescript';
import { createApp, isNest12, platforms } from '../support/app.js';
import { gate } from '../support/gate.js';

const guide = readFileSync('docs/troubleshooting.md', 'utf8');

const compile = (imports: (typeof BackgroundTasksModule)[], ...providers: Type[]) =>
  Test.createTestingModule({ imports, providers }).compile();

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
    const compiled = ts.transpile(source, {
      experimentalDecorators: true,
      emitDecoratorMetadata: true,
      target: ts.ScriptTarget.ES2022,
      module: ts.ModuleKind.CommonJS,
    });
    const exported: { QueryLog?: Type } = {};
    // oxlint-disable-next-line typescript/no-implied-eval -- runs the output of tsc with the modules of this spec
    new Function('require', 'exports', compiled)(() => common, exported);

    const error = await compile([BackgroundTasksModule], exported.QueryLog!).catch((reason: unknown) => reason);
    expect(guide).toContain((error as Error).message.split('\n')[0]);
  });

  it('quotes the error for the decorator of a method on a parameter', () => {
    class UsersController {
      signUp(): void {}
    }

    let said: unknown;
    try {
      (BackgroundTask() as unknown as ParameterDecorator)(UsersController.prototype, 'signUp', 0);
    } catch (error) {
      said = (error as Error).message;
    }
    expect(guide).toContain(said);
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

  // The rule of oxlint is a port of the one of typescript-eslint, with its message.
  it('quotes the error of the rule unbound-method, and both cures silence it', () => {
    const directory = mkdtempSync(join(tmpdir(), 'unbound-method-'));
    const disabling = guide.match(/^\/\/ eslint-disable-next-line .*$/m)![0];
    const files: Record<string, string> = {
      '.oxlintrc.json':
        '{ "plugins": ["typescript"], "categories": { "correctness": "off" }, "rules": { "typescript/unbound-method": "error" } }',
      'tsconfig.json': '{ "compilerOptions": { "strict": true, "target": "es2022", "module": "nodenext" } }',
      'users.ts': `
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
        }`,
    };
    for (const [name, text] of Object.entries(files)) writeFileSync(join(directory, name), text);
    const { stdout } = spawnSync(
      'npx',
      ['oxlint', '--type-aware', '--format', 'json', '-c', join(directory, '.oxlintrc.json'), directory],
      {
        encoding: 'utf8',
      },
    );
    rmSync(directory, { recursive: true });
    const { diagnostics } = JSON.parse(stdout) as { diagnostics: { message: string; labels: { span: { line: number } }[] }[] };
    expect(diagnostics).toHaveLength(1);
    expect(guide).toContain(diagnostics[0]!.message);
    expect(diagnostics[0]!.labels[0]!.span.line).toBe(6);
  });

  it('quotes the error of Nest for app.get(BackgroundTasks)', async () => {
    const testingModule = await compile([BackgroundTasksModule]);
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
