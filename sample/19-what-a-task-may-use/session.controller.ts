import { promisify } from 'node:util';
import { Controller, HttpCode, Post, Req } from '@nestjs/common';
import { BackgroundTasks } from 'nestjs-background-tasks';

type Callback = (error?: unknown) => void;

/** What this sample uses of the sessions of express-session. Those of `@fastify/session` have it, too. */
interface Session {
  greeting?: string;
  reload(callback: Callback): void;
  save(callback: Callback): void;
}

@Controller('session')
export class SessionController {
  @Post()
  @HttpCode(202)
  greet(@Req() request: { session: Session }, @BackgroundTasks() tasks: BackgroundTasks): void {
    request.session.greeting = 'soon';
    tasks.addTask({ name: 'greet' }, async () => {
      // Another request may have changed the session by now, and `save()` writes all of it.
      await promisify<void>((done) => request.session.reload(done))();
      request.session.greeting = 'hello';
      await promisify<void>((done) => request.session.save(done))();
    });
  }
}
