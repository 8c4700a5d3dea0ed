// Guarantee 4: exceptions decide the outcome, whatever a filter answers or a hook makes of the status.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { beforeEach, describe, expect, it } from '@jest/globals';
import {
  type ArgumentsHost,
  Catch,
  Controller,
  type ExceptionFilter,
  Get,
  type INestApplication,
  Injectable,
  Module,
  Render,
  Res,
  StreamableFile,
  UseFilters,
} from '@nestjs/common';
import { BackgroundTask, BackgroundTasks, type BackgroundTasksEngine, BackgroundTasksModule } from 'nestjs-background-tasks';
import { Readable } from 'node:stream';
import { EMPTY } from 'rxjs';
import { createApp, platforms } from '../support/app.js';
import { addOutcomeTasks } from '../support/outcome-tasks.js';

let ran: string[];

beforeEach(() => {
  ran = [];
});

/** The part of both platforms' responses that this spec uses. */
interface Reply {
  readonly raw: ServerResponse;
  status(code: number): this;
  send(body: unknown): void;
}

@Catch()
class OkFilter implements ExceptionFilter {
  catch(_error: unknown, host: ArgumentsHost) {
    host.switchToHttp().getResponse<Reply>().status(200).send('all is well');
  }
}

/** Replaces a method, and leaves the function without its name, as a decorator that measures or caches may do. */
function Wrapped(_target: object, _name: string, descriptor: PropertyDescriptor): void {
  const method = descriptor.value;
  const replaced = function wrapper(this: unknown, ...args: unknown[]): unknown {
    return method.apply(this, args);
  };
  for (const key of Reflect.getMetadataKeys(method)) Reflect.defineMetadata(key, Reflect.getMetadata(key, method), replaced);
  descriptor.value = replaced;
}

class Values {
  @Get('not-json')
  notJson(@BackgroundTasks() tasks: BackgroundTasks) {
    this.#add(tasks);
    return { big: 1n };
  }

  @Get('broken-view')
  @Render('broken')
  brokenView(@BackgroundTasks() tasks: BackgroundTasks) {
    this.#add(tasks);
  }

  @Get('no-value')
  noValue(@BackgroundTasks() tasks: BackgroundTasks) {
    this.#add(tasks);
    return EMPTY;
  }

  @Get('by-hand')
  byHand(@Res() response: Reply, @BackgroundTasks() tasks: BackgroundTasks) {
    this.#add(tasks);
    response.send({ big: 1n });
  }

  @Get('cut-off')
  cutOff(@Res() response: Reply | ServerResponse, @BackgroundTasks() tasks: BackgroundTasks) {
    this.#add(tasks);
    const raw = 'raw' in response ? response.raw : (response as ServerResponse);
    raw.write('first');
    setImmediate(() => raw.destroy());
  }

  @Get('missing-file')
  missingFile(@BackgroundTasks() tasks: BackgroundTasks) {
    this.#add(tasks);
    return new StreamableFile(new Readable({ read: () => undefined, construct: (done) => done(new Error('ENOENT')) }));
  }

  @Get('like-a-file')
  likeAFile(@BackgroundTasks() tasks: BackgroundTasks) {
    this.#add(tasks);
    return {
      title: 'a video',
      getStream() {
        throw new Error('not while it is sent');
      },
    };
  }

  @Get('value')
  value(@BackgroundTasks() tasks: BackgroundTasks) {
    this.#add(tasks);
    return 'value';
  }

  @Get('later')
  @Wrapped
  later(@Res() response: Reply, @BackgroundTasks() tasks: BackgroundTasks) {
    this.#add(tasks);
    setImmediate(() => response.status(409).send('by hand, later'));
  }

  #add(tasks: BackgroundTasks): void {
    addOutcomeTasks(tasks, (name) => ran.push(name));
  }
}

@Controller()
class PlainController extends Values {}

@Controller('filtered')
@UseFilters(OkFilter)
class FilteredController extends Values {}

@Module({ imports: [BackgroundTasksModule], controllers: [PlainController, FilteredController] })
class OutcomeModule {}

describe.each(platforms)('the outcome on %s', (platform) => {
  const start = (configure: (app: INestApplication) => void) => createApp(platform, OutcomeModule, { configure });

  /** A view engine that fails, on each platform. */
  function useViews(app: INestApplication): void {
    const instance = app.getHttpAdapter().getInstance();
    const fail = (): never => {
      throw new Error('view');
    };
    if (platform === 'Fastify') instance.decorateReply('view', fail);
    else
      instance
        .engine('html', fail)
        .set('view engine', 'html')
        .set('views', '/')
        .set(
          'view',
          class View {
            path = 'in memory';
            render = fail;
          },
        );
  }

  // Fastify serialises, and renders, behind the filters of the route.
  const whole = platform === 'Express' ? [200, 200] : [500, 500];
  it.each<[string, number | undefined]>([
    ['/filtered/not-json', whole[0]],
    ['/filtered/no-value', 200],
    ['/filtered/broken-view', undefined],
    ['/filtered/by-hand', whole[1]],
    ['/missing-file', platform === 'Express' ? 400 : 500],
  ])('is a failure when the value cannot be sent, whatever a filter answers: %s', async (path, status) => {
    const { http, runner, logs } = await start(useViews);
    const response = await http.get(path);
    expect(response.status).toBe(status ?? response.status);
    await runner.onIdle();
    expect(ran).toEqual(['failure', 'always']);
    expect(logs.of('warn')).toEqual([]);
  });

  it('is a success if the status of a success is changed on the way', async () => {
    const { http, runner } = await start((app) => {
      if (platform === 'Fastify') {
        const hook = async (_request: object, reply: { code(status: number): void }, payload: unknown): Promise<unknown> => {
          reply.code(503);
          return payload;
        };
        app.getHttpAdapter().getInstance().addHook('onSend', hook);
        return;
      }
      // As `on-headers` does.
      app.use((_request: IncomingMessage, response: ServerResponse, next: () => void) => {
        const writeHead = response.writeHead.bind(response) as (...args: unknown[]) => ServerResponse;
        response.writeHead = (...[, ...rest]: unknown[]) => writeHead((response.statusCode = 503), ...rest);
        next();
      });
    });
    await http.get('/value').expect(503);
    await runner.onIdle();
    expect(ran).toEqual(['success', 'always']);
  });

  it('is a failure when the response is cut off, and middleware that has put a `destroy` of its own on it is called', async () => {
    let destroyed = 0;
    const { url, runner } = await start((app) => {
      app.use((_request: IncomingMessage, response: ServerResponse, next: () => void) => {
        const destroy = response.destroy.bind(response);
        response.destroy = (error) => {
          destroyed += 1;
          return destroy(error);
        };
        next();
      });
    });
    await expect(fetch(`${url}/cut-off`).then((response) => response.text())).rejects.toThrow();
    await runner.onIdle();
    expect(ran).toEqual(['failure', 'always']);
    expect(destroyed).toBe(1);
  });

  it('is a success if the value only looks like a file', async () => {
    const { http, runner } = await start(() => undefined);
    await http.get('/like-a-file').expect(200, { title: 'a video' });
    await runner.onIdle();
    expect(ran).toEqual(['success', 'always']);
  });

  it('is the same for a method that a decorator has replaced', async () => {
    const { http, runner } = await start(() => undefined);
    await http.get('/later').expect(409, 'by hand, later');
    await runner.onIdle();
    expect(ran).toEqual(['success', 'always']);
  });

  it('is known when a replaced method has answered by hand, and the engine has the tasks after that', async () => {
    const log: string[] = [];
    const engine: BackgroundTasksEngine = {
      enqueue: async () => void log.push('handed over'),
      work: () => undefined,
      close: () => Promise.resolve(),
    };

    @Injectable()
    class Mailer {
      @BackgroundTask('mail')
      mail(): void {}
    }

    @Controller()
    class MailController {
      constructor(private readonly mailer: Mailer) {}

      @Get()
      @Wrapped
      get(@Res() response: Reply, @BackgroundTasks() tasks: BackgroundTasks) {
        tasks.addTask(this.mailer.mail);
        setImmediate(() => {
          log.push('answered');
          response.status(200).send('by hand');
        });
      }
    }

    @Module({ imports: [BackgroundTasksModule.forRoot({ engine })], controllers: [MailController], providers: [Mailer] })
    class MailModule {}

    const { http, runner } = await createApp(platform, MailModule);
    await http.get('/').expect(200, 'by hand');
    await runner.onIdle();
    expect(log).toEqual(['answered', 'handed over']);
  });
});
