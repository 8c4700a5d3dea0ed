import { Module } from '@nestjs/common';
import { BackgroundTasksModule } from 'nestjs-background-tasks';
import { PrimesController } from './primes.controller.js';
import { Threads } from './threads.js';

@Module({
  // A computation can be repeated, so a shutdown does not wait for it for long.
  imports: [BackgroundTasksModule.forRoot({ shutdownTimeout: 1_000 })],
  controllers: [PrimesController],
  providers: [Threads],
})
export class AppModule {}
