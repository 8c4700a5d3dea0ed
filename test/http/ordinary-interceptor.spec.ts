import { expect, it, jest } from '@jest/globals';
import { Controller, Get, Module } from '@nestjs/common';
import { ExternalContextCreator, NestFactory } from '@nestjs/core';
import { BackgroundTasksInterceptor, BackgroundTasksModule } from 'nestjs-background-tasks';
import { createApp } from '../support/app.js';

// A version of Nest may run interceptors in another way than the one that this package shortens. Its interceptor is called as any other then,
// without an error, and all that does not tell it when the handler itself has ended holds as before: here are the same specs, run that way.

@Module({})
class EmptyModule {}

const context = await NestFactory.createApplicationContext(EmptyModule, { logger: false });
const { interceptorsConsumer } = context.get(ExternalContextCreator) as unknown as { interceptorsConsumer: object };
Object.defineProperty(Object.getPrototypeOf(interceptorsConsumer), 'intercept', { writable: false });

it('is called by Nest', async () => {
  @Controller()
  class PlainController {
    @Get()
    get() {
      return 'answer';
    }
  }

  @Module({ imports: [BackgroundTasksModule], controllers: [PlainController] })
  class PlainModule {}

  const intercept = jest.spyOn(BackgroundTasksInterceptor.prototype, 'intercept');
  const { http } = await createApp('Express', PlainModule);
  await http.get('/').expect(200, 'answer');
  expect(intercept).toHaveBeenCalledTimes(1);
  intercept.mockRestore();
});

for (const name of [
  '../outcome/outcome',
  '../outcome/outcome-by-exceptions',
  './response-paths',
  './client-leaves',
  './context',
  '../engine/port',
]) {
  await import(`${name}.spec.js`);
}
