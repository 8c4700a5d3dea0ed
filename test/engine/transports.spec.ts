// Guarantee 10: GraphQL operations and messages, too, are answered only after the engine has their tasks.
import type { AddressInfo, Server as NetServer } from 'node:net';
import { beforeEach, describe, expect, it } from '@jest/globals';
import { ApolloDriver, type ApolloDriverConfig } from '@nestjs/apollo';
import { Controller, Inject, Injectable, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { GraphQLModule, Mutation, Query, Resolver } from '@nestjs/graphql';
import { ClientProxyFactory, MessagePattern, type MicroserviceOptions, Payload, Transport } from '@nestjs/microservices';
import {
  BackgroundTask,
  BackgroundTasks,
  type BackgroundTasksEngine,
  BackgroundTasksModule,
  type EngineEntry,
} from 'nestjs-background-tasks';
import { lastValueFrom } from 'rxjs';
import { createApp } from '../support/app.js';
import { type Gate, gate } from '../support/gate.js';
import { Recorder } from '../support/recorder.js';
import { turns } from '../support/turns.js';

let offered: Recorder<string>;
/** Opens when the engine is to take what it is offered. */
let taking: Gate;
/** Opens when a field has added its task, and when the loss of a task has been reported. */
let added: Gate;
let reported: Gate;
/** The events, in order. */
let events: string[];

beforeEach(() => {
  offered = new Recorder();
  taking = gate();
  added = gate();
  reported = gate();
  events = [];
});

const engine: BackgroundTasksEngine = {
  async enqueue(entries: readonly EngineEntry[], signal: AbortSignal) {
    for (const { name, args } of entries) offered.add(`${name} ${args}`);
    await taking.opened;
    if (!signal.aborted) events.push('taken');
  },
  work: () => undefined,
  close: async () => undefined,
};

@Injectable()
class MailTasks {
  @BackgroundTask('mail')
  mail(_to: string): void {}

  @BackgroundTask('apology', { runOn: 'failure' })
  apologize(_to: string): void {}
}

function add(tasks: BackgroundTasks, to: string): void {
  tasks.addTask(MailTasks.prototype.mail, to);
  tasks.addTask(MailTasks.prototype.apologize, to);
  if (to === 'nobody') throw new Error('nobody is there');
}

@Controller()
class MailController {
  @MessagePattern('mail')
  mail(@Payload() to: string, @BackgroundTasks() tasks: BackgroundTasks) {
    add(tasks, to);
    return 'reply';
  }
}

@Resolver()
class MailResolver {
  constructor(@Inject(MailTasks) readonly tasks: MailTasks) {}

  @Query(() => String)
  ping() {
    return 'pong';
  }

  @Mutation(() => String)
  mail(@BackgroundTasks() tasks: BackgroundTasks) {
    add(tasks, 'somebody');
    return 'reply';
  }

  @Mutation(() => String, { nullable: true })
  optional(@BackgroundTasks() tasks: BackgroundTasks) {
    return this.mail(tasks);
  }

  /** Has the engine back for the fields that come after it. */
  @Mutation(() => String)
  recover() {
    taking.open();
    return 'reply';
  }

  @Query(() => String, { nullable: true })
  async innocent() {
    await added.opened;
    return 'innocent';
  }

  @Query(() => String, { nullable: true })
  async adding(@BackgroundTasks() tasks: BackgroundTasks) {
    add(tasks, 'somebody');
    added.open();
    await reported.opened;
    return 'adding';
  }

  @Mutation(() => String)
  fail(@BackgroundTasks() tasks: BackgroundTasks) {
    add(tasks, 'nobody');
    return 'reply';
  }
}

function onError(error: unknown): void {
  events.push((error as { code: string }).code);
  reported.open();
}

const options = { engine, flushTimeout: 200, onError };

@Module({ imports: [BackgroundTasksModule.forRoot(options)], controllers: [MailController], providers: [MailTasks] })
class MessageModule {}

@Module({
  imports: [
    BackgroundTasksModule.forRoot(options),
    GraphQLModule.forRoot<ApolloDriverConfig>({ driver: ApolloDriver, autoSchemaFile: true }),
  ],
  providers: [MailTasks, MailResolver],
})
class GraphqlModule {}

interface Transported {
  /** Resolves with what the client hears. */
  mail(to: 'somebody' | 'nobody'): Promise<string>;
  close(): Promise<void>;
}

async function overTcp(): Promise<Transported> {
  const app = await NestFactory.createMicroservice<MicroserviceOptions>(MessageModule, {
    transport: Transport.TCP,
    options: { host: '127.0.0.1', port: 0 },
    logger: false,
  });
  await app.listen();
  const { port } = app.unwrap<NetServer>().address() as AddressInfo;
  const client = ClientProxyFactory.create({ transport: Transport.TCP, options: { host: '127.0.0.1', port } });
  return {
    mail: (to) => lastValueFrom(client.send<string>('mail', to)).catch(() => 'error'),
    async close() {
      await client.close();
      await app.close();
    },
  };
}

async function overGraphql(): Promise<Transported> {
  const { http } = await createApp('Express', GraphqlModule);
  return {
    async mail(to) {
      const { body } = await http.post('/graphql').send({ query: `mutation { reply: ${to === 'nobody' ? 'fail' : 'mail'} }` });
      return body.errors ? 'error' : body.data.reply;
    },
    close: async () => undefined,
  };
}

describe.each([
  ['a message of a microservice', overTcp],
  ['a mutation of GraphQL', overGraphql],
])('%s', (_what, start) => {
  it('is answered when the engine has its tasks', async () => {
    const { mail, close } = await start();
    const reply = mail('somebody').then((text) => events.push(text));
    await offered.atLeast(1);
    taking.open();
    await reply;
    await close();
    expect(offered.all).toEqual(['mail ["somebody"]']);
    expect(events).toEqual(['taken', 'reply']);
  });

  it('fails when the engine does not take them in time', async () => {
    const { mail, close } = await start();
    events.push(await mail('somebody'));
    taking.open();
    await close();
    // The outcome is a failure by then, and the engine is there again.
    expect(events).toEqual(['BACKGROUND_TASK_ENGINE', 'error', 'taken']);
    expect(offered.all).toEqual(['mail ["somebody"]', 'apology ["somebody"]']);
  });

  it('that fails is answered when the engine has the tasks for a failure', async () => {
    const { mail, close } = await start();
    const reply = mail('nobody').then((text) => events.push(text));
    await offered.atLeast(1);
    // An answer that did not wait would be there by then.
    for (let times = 0; times < 20; times++) await turns();
    taking.open();
    await reply;
    await close();
    expect(events).toEqual(['taken', 'error']);
    expect(offered.all).toEqual(['apology ["nobody"]']);
  });
});

describe('the fields of one operation of GraphQL', () => {
  it('wait for the engine again after one of them has failed with it', async () => {
    const { http } = await createApp('Express', GraphqlModule);
    const { body } = await http.post('/graphql').send({ query: 'mutation { first: optional recover second: optional }' });
    expect(body.data).toEqual({ first: null, recover: 'reply', second: 'reply' });
    expect(body.errors).toMatchObject([{ path: ['first'] }]);
    expect(events.slice(0, 2)).toEqual(['BACKGROUND_TASK_ENGINE', 'taken']);
    expect(offered.all.slice(0, 2)).toEqual(['mail ["somebody"]', 'mail ["somebody"]']);
  });

  it('fail if the engine does not take tasks that were added while they worked, also if another field added them', async () => {
    const { http } = await createApp('Express', GraphqlModule);
    const { body } = await http.post('/graphql').send({ query: '{ innocent adding }' });
    expect(body.data).toEqual({ innocent: null, adding: null });
    expect(events).toEqual(['BACKGROUND_TASK_ENGINE']);
  });
});
