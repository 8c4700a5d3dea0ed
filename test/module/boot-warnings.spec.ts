// Public API: at boot, one warning names what became request-scoped because it injects the list.
import { describe, expect, it } from '@jest/globals';
import {
  type CanActivate,
  Controller,
  Get,
  Inject,
  Injectable,
  Module,
  type OnApplicationBootstrap,
  type OnModuleInit,
  Scope,
  SetMetadata,
  UseGuards,
} from '@nestjs/common';
import { EventEmitterModule, OnEvent } from '@nestjs/event-emitter';
import { Cron, ScheduleModule } from '@nestjs/schedule';
import { WebSocketGateway } from '@nestjs/websockets';
import { BackgroundTasks, BackgroundTasksModule } from 'nestjs-background-tasks';
import { createApp } from '../support/app.js';

@Injectable()
class UsersService {
  constructor(readonly tasks: BackgroundTasks) {}
}

@Injectable()
class Mailer implements OnModuleInit, OnApplicationBootstrap {
  @Inject() readonly tasks!: BackgroundTasks;
  onModuleInit(): void {}
  onApplicationBootstrap(): void {}
}

@Injectable()
class Cleaner {
  constructor(readonly users: UsersService) {}
  @Cron('* * * * *')
  clean(): void {}
}

@Injectable()
class Listener {
  constructor(readonly tasks: BackgroundTasks) {}
  @OnEvent('order.placed')
  placed(): void {}
}

@WebSocketGateway()
class ChatGateway {
  constructor(readonly tasks: BackgroundTasks) {}
}

@Injectable()
@SetMetadata('bullmq:processor_metadata', { name: 'mail' })
class MailProcessor {
  constructor(readonly tasks: BackgroundTasks) {}
}

@Injectable()
class Guard implements CanActivate, OnModuleInit {
  constructor(readonly users: UsersService) {}
  canActivate(): boolean {
    return true;
  }
  onModuleInit(): void {}
}

@Controller()
@UseGuards(Guard)
class GuardedController implements OnModuleInit {
  onModuleInit(): void {}
  @Get()
  get(): void {}
}

@Injectable()
class CountResolver {
  constructor(readonly tasks: BackgroundTasks) {}
  @SetMetadata('graphql:resolver_type', 'Subscription')
  counts(): void {}
}

// The rest is correct, and causes no warning.

@Injectable()
class AuthorResolver {
  constructor(readonly tasks: BackgroundTasks) {}
  @SetMetadata('graphql:resolver_type', 'Query')
  author(): void {}
}

@Injectable({ scope: Scope.REQUEST })
class OnPurpose implements OnModuleInit {
  constructor(readonly tasks: BackgroundTasks) {}
  onModuleInit(): void {}
}

@Injectable()
class ThroughIt implements OnModuleInit {
  constructor(readonly onPurpose: OnPurpose) {}
  onModuleInit(): void {}
}

@Injectable()
class Singleton implements OnModuleInit {
  onModuleInit(): void {}
}

@Module({
  imports: [EventEmitterModule.forRoot(), ScheduleModule.forRoot()],
  controllers: [GuardedController],
  providers: [
    UsersService,
    Mailer,
    Cleaner,
    Listener,
    ChatGateway,
    MailProcessor,
    CountResolver,
    AuthorResolver,
    OnPurpose,
    ThroughIt,
    Singleton,
  ],
})
class FeatureModule {}

describe('a provider that the injection of the list makes request-scoped', () => {
  it('is named at boot, once, with the way that leads there, if it counts on being made once', async () => {
    @Module({ imports: [BackgroundTasksModule, FeatureModule] })
    class AppModule {}

    const { http, logs } = await createApp('Express', AppModule);
    await http.get('/').expect(200);
    expect(logs.of('warn')).toEqual([
      'Injecting BackgroundTasks makes a class, and every class that injects it, request-scoped. This affects:\n' +
        '  Mailer → BackgroundTasks: its onModuleInit(), onApplicationBootstrap() will not be called\n' +
        '  Cleaner → UsersService → BackgroundTasks: @Cron(), @Interval() or @Timeout() is for singletons\n' +
        '  Listener → BackgroundTasks: @OnEvent() is for singletons\n' +
        '  ChatGateway → BackgroundTasks: @WebSocketGateway() is for singletons\n' +
        '  MailProcessor → BackgroundTasks: @Processor() is for singletons\n' +
        '  CountResolver → BackgroundTasks: @Subscription() is for singletons\n' +
        '  GuardedController → Guard → UsersService → BackgroundTasks: its onModuleInit() will not be called\n' +
        '  Guard → UsersService → BackgroundTasks: its onModuleInit() will not be called\n' +
        'Configure `BackgroundTasksModule.forRoot({ scope: Scope.DEFAULT })`: you then inject a singleton that follows the request, and ' +
        'nothing becomes request-scoped. Or do not inject the list there: take the list as a parameter of the handler, ' +
        '`@BackgroundTasks() tasks: BackgroundTasks`, and pass it on, or get it with `BackgroundTasks.of(context)`',
    ]);
  });

  it('does not exist under Scope.DEFAULT', async () => {
    @Module({ imports: [BackgroundTasksModule.forRoot({ scope: Scope.DEFAULT }), FeatureModule] })
    class AppModule {}

    const { logs } = await createApp('Express', AppModule);
    expect(logs.of('warn')).toEqual([]);
  });
});
