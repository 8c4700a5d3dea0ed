import { describe, it, expect } from '@jest/globals';
import { Test } from '@nestjs/testing';
import { Controller, Get, Injectable, Module } from '@nestjs/common';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { ExpressAdapter } from '@nestjs/platform-express';
import request from 'supertest';
import { BackgroundTasks, BackgroundTasksModule, BackgroundTasksRunner } from 'nestjs-background-tasks';
const log: string[] = [];
@Injectable() class S { constructor(readonly tasks: BackgroundTasks) {} x() { this.tasks.addTask(() => log.push('s')); return this.tasks } }
@Controller() class C {
  constructor(readonly s: S) {}
  @Get() get(@BackgroundTasks() tasks: BackgroundTasks) { tasks.addTask((x: string) => log.push(x), 'hello'); return { same: this.s.x() === tasks }; }
}
@Module({ imports: [BackgroundTasksModule], controllers: [C], providers: [S] }) class M {}
describe.each([['express', () => new ExpressAdapter()], ['fastify', () => new FastifyAdapter()]] as const)('%s', (_n, a) => {
  it('works', async () => {
    log.length = 0;
    const m = await Test.createTestingModule({ imports: [M] }).compile();
    const app = m.createNestApplication(a() as any);
    await app.init();
    await app.getHttpAdapter().getInstance().ready?.();
    const r = await request(app.getHttpServer()).get('/');
    expect(r.body).toEqual({ same: true });
    await app.get(BackgroundTasksRunner).onIdle();
    expect(log).toEqual(['hello', 's']);
    await app.close();
  });
});
