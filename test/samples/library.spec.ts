// Sample 21: a library that adds tasks without depending on this package.
import { describe, expect, it } from '@jest/globals';
import { Module } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { AppModule, OrdersController } from '../../sample/21-library/app.module.js';
import { Audit } from '../../sample/21-library/audit.js';
import { createApp, platforms } from '../support/app.js';

describe.each(platforms)('the audit library on %s', (platform) => {
  it('adds a task to the request of the application that provides RUN_LATER', async () => {
    const { app, http, runner } = await createApp(platform, AppModule);
    await http.post('/orders/7').expect(201, { id: '7', written: 0 });
    await runner.onIdle();
    expect(app.get(Audit).written).toEqual(['order 7']);
  });
});

describe('the audit library without this package', () => {
  @Module({ providers: [Audit], controllers: [OrdersController] })
  class PlainModule {}

  it('runs its work by itself', async () => {
    const app = await Test.createTestingModule({ imports: [PlainModule] }).compile();
    const audit = app.get(Audit);
    audit.note('alone');
    await Promise.resolve();
    expect(audit.written).toEqual(['alone']);
  });
});
