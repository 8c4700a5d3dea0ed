import { Module } from '@nestjs/common';
import { BackgroundTasksModule } from 'nestjs-background-tasks';
import { Contacts } from './contacts.js';
import { ExportsController } from './exports.controller.js';
import { UploadsController } from './express-uploads.controller.js';

@Module({ imports: [BackgroundTasksModule], controllers: [UploadsController, ExportsController], providers: [Contacts] })
export class AppModule {}
