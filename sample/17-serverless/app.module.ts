import { Module } from '@nestjs/common';
import { BackgroundTasksModule } from 'nestjs-background-tasks';
import { SignUpsController } from './sign-ups.controller.js';

@Module({
  imports: [
    // The functions below await `onIdle()`. This tells the module, so that it does not warn at boot.
    BackgroundTasksModule.forRoot({ waitUntil: () => undefined }),
  ],
  controllers: [SignUpsController],
})
export class AppModule {}
