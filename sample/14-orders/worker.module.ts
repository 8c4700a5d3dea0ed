import { Module } from '@nestjs/common';
import { backend } from './backend.js';
import { MailTasks } from './mail.tasks.js';
import { engine } from './settings.js';

@Module({ imports: backend(engine({ concurrency: 5 }), 'worker'), providers: [MailTasks] })
export class WorkerModule {}
