// Sample 04: a download on Fastify whose file is removed after it.
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { get } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { AppModule } from '../../sample/04-fastify/app.module.js';
import { createApp } from '../support/app.js';

describe('sample/04-fastify', () => {
  const { TMPDIR } = process.env;
  let directory: string;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'sample-fastify-'));
    process.env.TMPDIR = directory;
  });

  afterEach(async () => {
    if (TMPDIR === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = TMPDIR;
    await rm(directory, { recursive: true });
  });

  it('removes the file when the download is through', async () => {
    const { http, runner } = await createApp('Fastify', AppModule);
    const { text } = await http.get('/exports/3.csv').expect(200).expect('Content-Type', 'text/csv');
    expect(text).toBe('0,0\n1,1\n2,4\n');
    await runner.onIdle();
    expect(await readdir(directory)).toEqual([]);
  });

  it('removes the file when the client leaves half-way', async () => {
    const { url, runner } = await createApp('Fastify', AppModule);
    await new Promise<void>((resolve, reject) => {
      get(`${url}/exports/1000000.csv`, (response) => {
        response.once('data', () => {
          response.destroy();
          resolve();
        });
      }).once('error', reject);
    });
    await runner.onIdle();
    expect(await readdir(directory)).toEqual([]);
  });
});
