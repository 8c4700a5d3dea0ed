// Sample 08: durable providers, one per tenant.
import { beforeEach, describe, expect, it } from '@jest/globals';
import { Controller, Get, Injectable, Module, Scope } from '@nestjs/common';
import { ContextIdFactory } from '@nestjs/core';
import { BackgroundTasks, BackgroundTasksModule } from 'nestjs-background-tasks';
import { AppModule } from '../../sample/08-multi-tenant/app.module.js';
import { TenantStore } from '../../sample/08-multi-tenant/tenant-store.js';
import { TenantStrategy } from '../../sample/08-multi-tenant/tenant.strategy.js';
import { createApp, platforms } from '../support/app.js';

describe.each(platforms)('sample/08-multi-tenant on %s', (platform) => {
  beforeEach(() => {
    ContextIdFactory.apply(new TenantStrategy());
    TenantStore.connections = 0;
  });

  it("saves each invoice with the store of its request's tenant, of which there is one per tenant", async () => {
    const { http, runner, logs } = await createApp(platform, AppModule);
    for (const [tenant, invoice] of [
      ['acme', '1'],
      ['globex', '2'],
      ['acme', '3'],
    ] as const) {
      await http.post(`/invoices/${invoice}`).set('x-tenant', tenant).expect(202);
    }
    await runner.onIdle();
    await http.get('/invoices').set('x-tenant', 'acme').expect(200, ['1 of acme', '3 of acme']);
    await http.get('/invoices').set('x-tenant', 'globex').expect(200, ['2 of globex']);
    expect(TenantStore.connections).toBe(2);
    expect(logs.lines).toEqual([]);
  });

  it('a durable provider cannot have the list of a request, and addTask says so', async () => {
    const errors: unknown[] = [];

    @Injectable({ scope: Scope.REQUEST, durable: true })
    class DurableService {
      constructor(readonly tasks: BackgroundTasks) {}
    }

    @Controller()
    class DurableController {
      constructor(private readonly service: DurableService) {}

      @Get()
      get(): void {
        try {
          this.service.tasks.addTask(() => {});
        } catch (error) {
          errors.push(error);
        }
      }
    }

    @Module({ imports: [BackgroundTasksModule], controllers: [DurableController], providers: [DurableService] })
    class DurableModule {}

    const { http } = await createApp(platform, DurableModule);
    await http.get('/').set('x-tenant', 'acme').expect(200);
    expect(errors).toMatchObject([{ code: 'BACKGROUND_TASK_UNSUPPORTED_CONTEXT' }]);
  });
});
