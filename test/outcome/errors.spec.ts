// Public API: errors that answer 503 are logged once, and tell the client nothing of the inside.
import type { AddressInfo, Server } from 'node:net';
import { afterEach, describe, expect, it, jest } from '@jest/globals';
import { ApolloDriver, type ApolloDriverConfig } from '@nestjs/apollo';
import {
  type ArgumentsHost,
  type CanActivate,
  Catch,
  Controller,
  type ExceptionFilter,
  Get,
  HttpException,
  HttpStatus,
  Injectable,
  Module,
  UseGuards,
} from '@nestjs/common';
import { APP_FILTER, HttpAdapterHost } from '@nestjs/core';
import { GraphQLModule, Query, Resolver } from '@nestjs/graphql';
import { ClientProxyFactory, MessagePattern, type MicroserviceOptions, Transport } from '@nestjs/microservices';
import { MercuriusDriver, type MercuriusDriverConfig } from '@nestjs/mercurius';
import {
  BackgroundTask,
  BackgroundTasks,
  BackgroundTasksEngineError,
  BackgroundTasksError,
  BackgroundTasksModule,
  BackgroundTasksOverflowError,
  BackgroundTasksShutdownError,
  BackgroundTasksTimeoutError,
} from 'nestjs-background-tasks';
import { lastValueFrom } from 'rxjs';
import { type Platform, RecordedLogs, createApp, platforms } from '../support/app.js';

afterEach(() => void jest.restoreAllMocks());

/** The errors that anybody logs, Nest included. */
function errorLogs(): unknown[][] {
  return jest.spyOn(RecordedLogs.prototype, 'error').mock.calls;
}

const body = { statusCode: 503, message: 'Service Unavailable' };
const refused = 'Background task "mail" was refused: 1 tasks are already waiting; try again later, or raise `maxPending`';

/** Has one task wait, which is all that may, and adds another. */
function addTooMany(tasks: BackgroundTasks): void {
  tasks.addTask(() => undefined);
  tasks.addTask({ name: 'mail' }, () => undefined);
}

@Injectable()
class AddingGuard implements CanActivate {
  constructor(private readonly tasks: BackgroundTasks) {}
  canActivate(): boolean {
    addTooMany(this.tasks);
    return true;
  }
}

@Injectable()
class MailTasks {
  @BackgroundTask('mail')
  mail(): void {}
}

@Controller()
class RefusedController {
  @Get('handler')
  handler(@BackgroundTasks() tasks: BackgroundTasks) {
    addTooMany(tasks);
  }

  @Get('guard')
  @UseGuards(AddingGuard)
  guard() {}

  @Get('engine')
  engine(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(MailTasks.prototype.mail);
  }
}

/** The filter of Nest's documentation that catches everything. */
@Catch()
class CatchEverythingFilter implements ExceptionFilter {
  constructor(private readonly httpAdapterHost: HttpAdapterHost) {}

  catch(exception: unknown, host: ArgumentsHost): void {
    const { httpAdapter } = this.httpAdapterHost;
    const context = host.switchToHttp();
    const statusCode = exception instanceof HttpException ? exception.getStatus() : HttpStatus.INTERNAL_SERVER_ERROR;
    httpAdapter.reply(context.getResponse(), { statusCode, path: httpAdapter.getRequestUrl(context.getRequest()) }, statusCode);
  }
}

const engine = { enqueue: () => Promise.reject(new Error('away')), work: () => undefined, close: async () => undefined };

function moduleWith(...filters: { provide: typeof APP_FILTER; useClass: typeof CatchEverythingFilter }[]) {
  @Module({
    imports: [BackgroundTasksModule.forRoot({ maxPending: 1, engine, flushTimeout: 30 })],
    controllers: [RefusedController],
    providers: [MailTasks, ...filters],
  })
  class RefusedModule {}
  return RefusedModule;
}

describe.each(platforms)('an error that answers 503 on %s', (platform) => {
  it.each([
    ['/handler', refused],
    ['/guard', refused],
    ['/engine', 'Background task "mail" did not get to the engine within the flushTimeout of 30 ms; last error: away'],
  ])('tells the client nothing of the inside, and is logged once: %s', async (path, message) => {
    const errors = errorLogs();
    const { http, runner } = await createApp(platform, moduleWith());
    await http.get(path).expect(503, body).expect('Retry-After', '1');
    await runner.onIdle();
    expect(errors.map(([logged]) => logged)).toEqual([message]);
  });

  it.each(['/handler', '/guard', '/engine'])('answers 503 behind a filter that catches everything, too: %s', async (path) => {
    const { http } = await createApp(platform, moduleWith({ provide: APP_FILTER, useClass: CatchEverythingFilter }));
    await http.get(path).expect(503, { statusCode: 503, path }).expect('Retry-After', '1');
  });
});

describe('the errors that answer 503', () => {
  it.each([
    ['BACKGROUND_TASK_OVERFLOW', new BackgroundTasksOverflowError('mail', 1)],
    ['BACKGROUND_TASK_SHUTDOWN', new BackgroundTasksShutdownError('mail', 'was refused')],
    ['BACKGROUND_TASK_ENGINE', new BackgroundTasksEngineError(['mail'], 'was not taken', new Error('away'))],
  ])('%s is an HttpException, and a BackgroundTasksError', (code, error: Error) => {
    expect(error).toBeInstanceOf(HttpException);
    expect(error).toBeInstanceOf(BackgroundTasksError);
    expect(error).toBeInstanceOf(error.constructor);
    expect(error).not.toBeInstanceOf(BackgroundTasksTimeoutError);
    expect(error).toMatchObject({ code, name: error.constructor.name, message: expect.stringContaining('"mail"') });
    expect(error.stack).toContain(`${error.name}: ${error.message}\n    at `);
    expect((error as HttpException).getStatus()).toBe(503);
    expect((error as HttpException).getResponse()).toEqual(body);
  });

  it('name what they are about', () => {
    const cause = new Error('away');
    expect(new BackgroundTasksOverflowError('mail', 1)).toMatchObject({ task: 'mail', maxPending: 1 });
    expect(new BackgroundTasksEngineError(['mail'], 'was not taken', cause)).toMatchObject({ tasks: ['mail'], cause });
  });

  it('are told apart by instanceof', () => {
    const overflow = new BackgroundTasksOverflowError('mail', 1);
    const timeout = new BackgroundTasksTimeoutError('mail', 1);
    expect(overflow).not.toBeInstanceOf(BackgroundTasksShutdownError);
    expect(timeout).toBeInstanceOf(BackgroundTasksError);
    expect(timeout).not.toBeInstanceOf(HttpException);
    expect(timeout).not.toBeInstanceOf(BackgroundTasksOverflowError);
    for (const other of [new Error(), {}, null, undefined, 'text', new HttpException('', 503)]) {
      expect(other instanceof BackgroundTasksError).toBe(false);
    }
  });
});

describe.each<[string, Platform]>([
  ['Apollo', 'Express'],
  ['Mercurius', 'Fastify'],
])('a task that is refused in a resolver, with %s,', (driver, platform) => {
  @Resolver()
  class RefusedResolver {
    @Query(() => String)
    refused(@BackgroundTasks() tasks: BackgroundTasks): string {
      addTooMany(tasks);
      return 'answer';
    }
  }

  @Module({
    imports: [
      BackgroundTasksModule.forRoot({ maxPending: 1 }),
      driver === 'Apollo'
        ? GraphQLModule.forRoot<ApolloDriverConfig>({ driver: ApolloDriver, autoSchemaFile: true })
        : GraphQLModule.forRoot<MercuriusDriverConfig>({ driver: MercuriusDriver, autoSchemaFile: true }),
    ],
    providers: [RefusedResolver],
  })
  class GraphqlModule {}

  it('is an error of its field, which says nothing of the inside, and is logged once', async () => {
    const errors = errorLogs();
    const { http, runner } = await createApp(platform, GraphqlModule);
    const response = await http.post('/graphql').send({ query: '{ refused }' });
    await runner.onIdle();
    expect(response.body).toMatchObject({ data: null, errors: [{ message: 'Service Unavailable' }] });
    expect(response.text).not.toContain('maxPending');
    expect(errors.map(([logged]) => logged)).toEqual([refused]);
  });
});

it('a task that is refused for a message is an internal error to the client, and is logged once', async () => {
  @Controller()
  class RefusedMessages {
    @MessagePattern('refused')
    refused(@BackgroundTasks() tasks: BackgroundTasks) {
      addTooMany(tasks);
    }
  }

  @Module({ imports: [BackgroundTasksModule.forRoot({ maxPending: 1 })], controllers: [RefusedMessages] })
  class MessagesModule {}

  const errors = errorLogs();
  const { app, runner } = await createApp('Express', MessagesModule, {
    configure: (hybrid) =>
      hybrid.connectMicroservice<MicroserviceOptions>(
        { transport: Transport.TCP, options: { host: '127.0.0.1', port: 0 } },
        { inheritAppConfig: true },
      ),
  });
  await app.startAllMicroservices();
  const { port } = app.getMicroservices()[0]!.unwrap<Server>().address() as AddressInfo;
  const client = ClientProxyFactory.create({ transport: Transport.TCP, options: { host: '127.0.0.1', port } });
  await expect(lastValueFrom(client.send('refused', {}))).rejects.toMatchObject({ message: 'Internal server error' });
  await client.close();
  await runner.onIdle();
  expect(errors.map(([logged]) => logged)).toEqual([refused]);
});
