// Not run by jest, which cannot load nestjs-cls, a CommonJS package, beside Nest 12, which is ES modules. Prints what the tasks saw.
import { Controller, Get, Injectable, Module, Param, Scope } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { BackgroundTasks, BackgroundTasksModule, BackgroundTasksRunner } from 'nestjs-background-tasks';
import { ClsModule, ClsService, UseCls } from 'nestjs-cls';

const scopes = { 'Scope.REQUEST': Scope.REQUEST, 'Scope.DEFAULT': Scope.DEFAULT } as const;

for (const mount of ['middleware', 'guard', 'interceptor', '@UseCls']) {
  for (const Adapter of [ExpressAdapter, FastifyAdapter]) {
    for (const [scope, value] of Object.entries(scopes)) {
      console.log(
        JSON.stringify({ mount, platform: Adapter.name.replace('Adapter', ''), scope, seen: await seenBy(mount, Adapter, value) }),
      );
    }
  }
}

/** For the tasks of two concurrent requests: the user, and true if nestjs-cls had the id of the handler. */
async function seenBy(mount: string, Adapter: typeof ExpressAdapter | typeof FastifyAdapter, scope: Scope.REQUEST | Scope.DEFAULT) {
  const seen: string[] = [];

  @Injectable()
  class Service {
    constructor(
      private readonly tasks: BackgroundTasks,
      private readonly cls: ClsService,
    ) {}
    add(): void {
      const handler = this.cls.getId();
      this.tasks.addTask(async () => {
        await Promise.resolve();
        seen.push(`${this.cls.get<string>('user')}, ${this.cls.getId() === handler ? 'same' : 'another'} id`);
      });
    }
  }

  @Controller()
  class UserController {
    constructor(
      private readonly service: Service,
      private readonly cls: ClsService,
    ) {}

    @Get(':user')
    get(@Param('user') user: string) {
      return this.handle(user);
    }

    @Get('decorated/:user')
    @UseCls({ generateId: true })
    decorated(@Param('user') user: string) {
      return this.handle(user);
    }

    private async handle(user: string) {
      this.cls.set('user', user);
      await new Promise(setImmediate);
      this.service.add();
    }
  }

  @Module({
    imports: [
      BackgroundTasksModule.forRoot({ scope }),
      ClsModule.forRoot({ global: true, ...(mount === '@UseCls' ? {} : { [mount]: { mount: true, generateId: true } }) }),
    ],
    controllers: [UserController],
    providers: [Service],
  })
  class UserModule {}

  const app = await NestFactory.create(UserModule, new Adapter(), { logger: ['error', 'warn'] });
  app.enableShutdownHooks();
  await app.listen(0, '127.0.0.1');
  const path = mount === '@UseCls' ? '/decorated' : '';
  const url = (await app.getUrl()) + path;
  await Promise.all(['ann', 'bob'].map((user) => fetch(`${url}/${user}`)));
  await app.get(BackgroundTasksRunner).onIdle();
  await app.close();
  return seen.sort();
}
