import { Module } from '@nestjs/common';
import { BackgroundTasksModule } from 'nestjs-background-tasks';
import { PrimesController } from './primes.controller.js';
import { Threads } from './threads.js';

@Module({
  imports: [BackgroundTasksModule.forRoot({ timeout: 1_000 })],
  controllers: [PrimesController],
  providers: [Threads],
})
export class AppModule {}
