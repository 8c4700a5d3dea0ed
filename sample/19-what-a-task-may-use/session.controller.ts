import { promisify } from 'node:util';
import { Controller, HttpCode, Post, Req } from '@nestjs/common';
import { BackgroundTasks } from 'nestjs-background-tasks';

type Callback = (error?: unknown) => void;

/** The part of a session that this sample uses, in express-session and `@fastify/session`. */
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
