import { Module } from '@nestjs/common';
import { BackgroundTasksModule } from 'nestjs-background-tasks';
import { ExportsController, UserLimit } from './exports.controller.js';
import { LinksController } from './links.controller.js';
import { ReportsController } from './reports.controller.js';
import { Work } from './work.js';

@Module({
  imports: [BackgroundTasksModule],
  controllers: [ReportsController, ExportsController, LinksController],
  providers: [UserLimit, Work],
})
export class AppModule {}
