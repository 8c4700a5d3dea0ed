// Sample 12: tasks of messages and events.
import type { AddressInfo, Server } from 'node:net';
import { describe, expect, it } from '@jest/globals';
import type { INestMicroservice } from '@nestjs/common';
import { ClientProxyFactory, type MicroserviceOptions, Transport } from '@nestjs/microservices';
import { lastValueFrom } from 'rxjs';
import { AppModule } from '../../sample/12-messages/app.module.js';
import { SalesController } from '../../sample/12-messages/sales.controller.js';
import { Supplier } from '../../sample/12-messages/supplier.js';
import { createApp, platforms } from '../support/app.js';
import { gate } from '../support/gate.js';

describe.each(platforms)('sample/12-messages on %s', (platform) => {
  async function createSample() {
    let microservice!: INestMicroservice;
    const served = await createApp(platform, AppModule, {
      configure: (app) => {
        const options = { transport: Transport.TCP as const, options: { host: '127.0.0.1', port: 0 } };
        microservice = app.connectMicroservice<MicroserviceOptions>(options, { inheritAppConfig: true });
      },
    });
    await served.app.startAllMicroservices();
    const { port } = microservice.unwrap<Server>().address() as AddressInfo;
    return { ...served, runner: served.runner, port, supplier: served.app.get(Supplier) };
  }

  it('orders at the start the articles that are out of stock', async () => {
    const { runner, supplier } = await createSample();
    await runner.onIdle();
    expect(supplier.orders).toEqual(['ink: none at the start']);
  });

  it('orders what a request sold, when it has its answer', async () => {
    const { http, runner, supplier } = await createSample();
    await http.post('/sales/pens').expect(201, { left: 1 });
    await runner.onIdle();
    expect(supplier.orders).toContain('pens: 1 left');
  });

  it('orders what a message sold, and writes its receipt, in the order of the one list', async () => {
    const { app, runner, port, supplier } = await createSample();
    await runner.onIdle();
    const happened: string[] = [];
    const done = gate();
    supplier.order = async (article) => void happened.push(`order ${article}`);
    app.get(SalesController).receipts.push = (article) => {
      happened.push(`receipt for ${article}`);
      done.open();
      return 1;
    };
    const client = ClientProxyFactory.create({ transport: Transport.TCP, options: { host: '127.0.0.1', port } });
    await lastValueFrom(client.emit('sold', 'pens'), { defaultValue: undefined });
    await done.opened;
    expect(happened).toEqual(['order pens', 'receipt for pens']);
    await client.close();
  });
});
