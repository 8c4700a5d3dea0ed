import { Module } from '@nestjs/common';
import { BackgroundTasksModule } from 'nestjs-background-tasks';
import { ContactStore } from './contact-store.js';
import { Imports } from './imports.js';
import { ImportsController } from './imports.controller.js';

@Module({
  imports: [BackgroundTasksModule],
  controllers: [ImportsController],
  providers: [ContactStore, Imports],
})
export class AppModule {}
