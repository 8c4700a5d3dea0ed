import { Injectable } from '@nestjs/common';
import { ContextIdFactory, ModuleRef } from '@nestjs/core';
import { BackgroundTasks } from 'nestjs-background-tasks';
import { Journal } from './journal.js';

/** A singleton that resolves the list of a request by hand. */
@Injectable()
export class Subscribers {
  constructor(
    private readonly moduleRef: ModuleRef,
    private readonly journal: Journal,
  ) {}

  async add(email: string, request: object): Promise<void> {
    const contextId = ContextIdFactory.getByRequest(request);
    this.moduleRef.registerRequestByContextId(request, contextId);
    const tasks = await this.moduleRef.resolve(BackgroundTasks, contextId, { strict: false });
    tasks.addTask((to) => this.journal.write('welcome', to), email);
  }
}
