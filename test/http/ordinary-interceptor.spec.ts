// Guarantee 11: the specs below hold, too, on a Nest whose way to run interceptors cannot be replaced.
import { expect, it, jest } from '@jest/globals';
import { Controller, Get, Module } from '@nestjs/common';
import { ExternalContextCreator, NestFactory } from '@nestjs/core';
import { BackgroundTasksInterceptor, BackgroundTasksModule } from 'nestjs-background-tasks';
import { createApp } from '../support/app.js';

// A future Nest may run interceptors in a way that this package cannot replace. Nest then calls its interceptor as any other, without an
// error. The interceptor cannot know when the handler itself has ended; all other promises hold.

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
