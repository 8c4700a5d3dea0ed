import { Controller, Get, Global, Injectable, Module, type OnApplicationShutdown, type OnModuleDestroy, Param, Post } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { BackgroundTasks, BackgroundTasksModule } from 'nestjs-background-tasks';
import { gate } from './gate.js';
import { turns } from './turns.js';

// A program that shutdown.spec.ts starts, drives over HTTP, and listens to: it prints one JSON object a line.

const connections = new Set(['root', 'feature', 'global', 'last']);
const slow = gate();

function say(event: object): void {
  process.stdout.write(`${JSON.stringify(event)}\n`);
}

function disconnect(name: string): void {
  connections.delete(name);
  say({ disconnected: name });
}

/** A task that takes a few turns of the event loop, and says what is connected when it ends. */
async function work(id: string): Promise<void> {
  await turns();
  say({ ran: id, with: [...connections] });
}

@Injectable()
class RootDatabase implements OnModuleDestroy {
  onModuleDestroy(): void {
    disconnect('root');
  }
}

@Injectable()
class FeatureDatabase implements OnModuleDestroy {
  onModuleDestroy(): void {
    disconnect('feature');
  }
}

@Injectable()
class GlobalDatabase implements OnModuleDestroy {
  onModuleDestroy(): void {
    disconnect('global');
  }
}

@Injectable()
class LastDatabase implements OnApplicationShutdown {
  onApplicationShutdown(): void {
    disconnect('last');
  }
}

@Controller()
class WorkController {
  @Get('work/:id')
  work(@Param('id') id: string, @BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(work, id);
    return id;
  }

  @Get('slow/:id')
  async slow(@Param('id') id: string, @BackgroundTasks() tasks: BackgroundTasks) {
    say({ began: id });
    await slow.opened;
    tasks.addTask(work, id);
    return id;
  }

  @Post('open')
  open() {
    slow.open();
  }

  @Post('close')
  close() {
    say({ closing: 'app.close()' });
    void app.close();
  }
}

@Module({ controllers: [WorkController], providers: [FeatureDatabase] })
class FeatureModule {}

@Global()
@Module({ providers: [GlobalDatabase, LastDatabase] })
class GlobalModule {}

@Module({ imports: [BackgroundTasksModule, FeatureModule, GlobalModule], providers: [RootDatabase] })
class AppModule {}

const adapter = process.argv[2] === 'Fastify' ? new FastifyAdapter() : new ExpressAdapter();
const app = await NestFactory.create(AppModule, adapter, { logger: ['error', 'warn'] });
app.enableShutdownHooks();
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => say({ closing: signal }));
await app.listen(0, '127.0.0.1');
say({ url: await app.getUrl() });
