import { Module } from '@nestjs/common';
import { BackgroundTasksModule } from 'nestjs-background-tasks';
import { Contacts } from './contacts.js';
import { UploadsController } from './fastify-uploads.controller.js';

@Module({ imports: [BackgroundTasksModule], controllers: [UploadsController], providers: [Contacts] })
export class AppModule {}
