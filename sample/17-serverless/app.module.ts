import { Module } from '@nestjs/common';
import { BackgroundTasksModule } from 'nestjs-background-tasks';
import { SignUpsController } from './sign-ups.controller.js';

@Module({
  imports: [
    // The functions below await `onIdle()`, as the warning at the start asks.
    BackgroundTasksModule.forRoot({ waitUntil: () => undefined }),
  ],
  controllers: [SignUpsController],
})
export class AppModule {}
