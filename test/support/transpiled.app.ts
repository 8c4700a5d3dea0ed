// Compiled by each compiler in turn: prints which tasks ran, and fails if they are not the expected ones.
import 'reflect-metadata';
import assert from 'node:assert/strict';
import { Controller, Get, Inject, Injectable, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { BackgroundTasks, BackgroundTasksModule, BackgroundTasksRunner } from 'nestjs-background-tasks';

const ran: string[] = [];

@Injectable()
class InjectedByType {
  constructor(readonly tasks: BackgroundTasks) {}
}

@Injectable()
class InjectedByDecorator {
  constructor(@BackgroundTasks() readonly tasks: BackgroundTasks) {}
}

@Controller()
class AppController {
  constructor(
    @Inject(InjectedByType) private readonly byType: { tasks: BackgroundTasks | undefined },
    @Inject(InjectedByDecorator) private readonly byDecorator: InjectedByDecorator,
  ) {}

  @Get()
  get(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(() => ran.push('parameter of a handler'));
    this.byDecorator.tasks.addTask(() => ran.push('decorated parameter of a constructor'));
    this.byType.tasks?.addTask(() => ran.push('type of a parameter of a constructor'));
  }
}

@Module({ imports: [BackgroundTasksModule], controllers: [AppController], providers: [InjectedByType, InjectedByDecorator] })
class AppModule {}

const app = await NestFactory.create(AppModule, { logger: false });
await app.listen(0, '127.0.0.1');
await fetch(await app.getUrl());
await app.get(BackgroundTasksRunner).onIdle();
await app.close();
console.log(ran.join('\n'));
if (process.argv[2]) assert.deepEqual(ran, process.argv[2].split(', '));
