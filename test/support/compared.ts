import { AsyncLocalStorage } from 'node:async_hooks';
import { once } from 'node:events';
import { type IncomingMessage, type ServerResponse, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { BullModule, InjectQueue, OnWorkerEvent, Processor, WorkerHost } from '@nestjs/bullmq';
import {
  Controller,
  type DynamicModule,
  Get,
  Inject,
  Injectable,
  type MiddlewareConsumer,
  Module,
  type NestModule,
  type OnModuleDestroy,
  Param,
  Post,
  Query,
} from '@nestjs/common';
import { EventEmitter2, EventEmitterModule, OnEvent } from '@nestjs/event-emitter';
import type { Job, Queue } from 'bullmq';
import { BackgroundTask, BackgroundTasks, BackgroundTasksModule, type BackgroundTasksModuleOptions } from 'nestjs-background-tasks';
import { bullmqEngine } from 'nestjs-background-tasks/bullmq';
import { gate } from './gate.js';
import { Recorder } from './recorder.js';

// The application of compared.spec.ts: the same mail, sent in each way of the table in the README, through a mail server that the test
// runs.

export interface Settings {
  readonly mailServer: string;
  /** Without it, there is no @nestjs/bullmq. */
  readonly redis?: { readonly url: string; readonly name: string } | undefined;
  readonly options?: BackgroundTasksModuleOptions;
}

/** The events of the application, in their order. */
@Injectable()
export class Events extends Recorder<string> {}

/** Handlers that wait do so until this gate opens. */
@Injectable()
export class Waiting {
  readonly gate = gate();
}

export const caller = new AsyncLocalStorage<string>();

@Injectable()
export class Mail {
  readonly sent: string[] = [];

  constructor(
    @Inject('mail server') private readonly server: string,
    private readonly events: Events,
  ) {}

  async send(to: string): Promise<void> {
    this.events.add(`mail to ${to}`);
    const { status } = await fetch(`${this.server}/${to}`, { method: 'POST', headers: { caller: caller.getStore() ?? 'nobody' } });
    if (status !== 200) throw new Error(`no mail to ${to}: ${status}`);
    this.sent.push(to);
    this.events.add(`sent to ${to}`);
  }
}

@Injectable()
class MailListener {
  constructor(private readonly mail: Mail) {}

  @OnEvent('signed-up')
  send(to: string): Promise<void> {
    return this.mail.send(to);
  }
}

@Injectable()
class MailTasks {
  constructor(private readonly mail: Mail) {}

  @BackgroundTask('mail')
  send(to: string): Promise<void> {
    return this.mail.send(to);
  }
}

@Controller()
class InProcessController {
  constructor(
    private readonly mail: Mail,
    private readonly emitter: EventEmitter2,
    private readonly events: Events,
    private readonly waiting: Waiting,
  ) {}

  @Post('void/:to')
  floating(@Param('to') to: string, @Query('wait') wait?: string) {
    void this.mail.send(to);
    return this.#answer(wait);
  }

  @Post('setImmediate/:to')
  setImmediate(@Param('to') to: string, @Query('wait') wait?: string) {
    // oxlint-disable-next-line typescript/no-misused-promises -- the mistake that the table is about
    setImmediate(() => this.mail.send(to));
    return this.#answer(wait);
  }

  @Post('setImmediate-throws')
  setImmediateThrows() {
    setImmediate(() => {
      throw new Error('thrown in setImmediate()');
    });
  }

  @Post('emit/:to')
  emit(@Param('to') to: string, @Query('wait') wait?: string) {
    this.emitter.emit('signed-up', to);
    this.events.add('emit() has returned');
    return this.#answer(wait);
  }

  @Post('addTask/:to')
  addTask(@Param('to') to: string, @BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask((address) => this.mail.send(address), to);
    tasks.addTask(() => this.events.add('the task behind it'));
  }

  @Get()
  alive() {
    return 'alive';
  }

  async #answer(wait: string | undefined): Promise<void> {
    if (wait) await this.waiting.gate.opened;
  }
}

@Controller()
class EngineController {
  constructor(private readonly mail: MailTasks) {}

  @Post('engine/:to')
  engine(@Param('to') to: string, @BackgroundTasks() tasks: BackgroundTasks, @Query('attempts') attempts?: string) {
    tasks.addTask({ ...(attempts && { attempts: Number(attempts) }) }, this.mail.send, to);
  }
}

/** Locks that run out sooner than by default, so that a test need not wait for a minute. */
const LOCKS = { lockDuration: 2_000, stalledInterval: 500 };

@Processor('mails', LOCKS)
export class MailProcessor extends WorkerHost {
  constructor(
    private readonly mail: Mail,
    private readonly events: Events,
  ) {
    super();
  }

  @OnWorkerEvent('closing')
  onClosing(): void {
    this.events.add('the worker of @nestjs/bullmq closes');
  }

  process(job: Job<{ to: string }>): Promise<void> {
    return this.mail.send(job.data.to);
  }
}

@Controller()
class QueueController {
  constructor(@InjectQueue('mails') private readonly queue: Queue) {}

  @Post('queue/:to')
  async add(@Param('to') to: string, @Query('attempts') attempts?: string) {
    await this.queue.add('mail', { to }, { ...(attempts && { attempts: Number(attempts) }) });
  }
}

/** A database that disconnects where Nest's documentation has Prisma do so. */
@Injectable()
class Database implements OnModuleDestroy {
  constructor(private readonly events: Events) {}

  onModuleDestroy(): void {
    this.events.add('the database disconnects');
  }
}

@Module({})
export class ComparedModule implements NestModule {
  constructor(private readonly events: Events) {}

  static with({ mailServer, redis, options }: Settings): DynamicModule {
    return {
      module: ComparedModule,
      imports: [
        EventEmitterModule.forRoot(),
        BackgroundTasksModule.forRoot({
          ...(redis && { engine: bullmqEngine({ connection: redis.url, queue: redis.name, worker: { concurrency: 1, ...LOCKS } }) }),
          ...options,
        }),
        ...(redis
          ? [BullModule.forRoot({ connection: { url: redis.url }, prefix: redis.name }), BullModule.registerQueue({ name: 'mails' })]
          : []),
      ],
      controllers: [InProcessController, EngineController, ...(redis ? [QueueController] : [])],
      providers: [
        { provide: 'mail server', useValue: mailServer },
        Events,
        Waiting,
        Mail,
        MailListener,
        MailTasks,
        Database,
        ...(redis ? [MailProcessor] : []),
      ],
    };
  }

  configure(consumer: MiddlewareConsumer): void {
    consumer
      .apply((request: IncomingMessage, response: ServerResponse, next: () => void) => {
        response.once('finish', () => this.events.add('the response is out'));
        caller.run(String(request.headers.caller), next);
      })
      .forRoutes('*path');
  }
}

/** A mail on its way, which arrives when the test says so. */
export interface Delivery {
  readonly to: string;
  readonly caller: string;
  answer(status: number): void;
}

/** A mail server that answers when the test says so. */
export class MailServer {
  readonly deliveries = new Recorder<Delivery>();
  readonly #server = createServer((request, response) => {
    this.deliveries.add({
      to: request.url!.slice(1),
      caller: String(request.headers.caller),
      answer: (status) => response.writeHead(status).end(),
    });
  });

  async start(): Promise<string> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** The deliveries to an address, once there are so many. */
  async to(address: string, count = 1): Promise<Delivery[]> {
    for (;;) {
      const found = this.deliveries.all.filter(({ to }) => to === address);
      if (found.length >= count) return found;
      await this.deliveries.atLeast(this.deliveries.all.length + 1);
    }
  }

  async stop(): Promise<void> {
    this.#server.close();
    this.#server.closeAllConnections();
    await once(this.#server, 'close');
  }
}
