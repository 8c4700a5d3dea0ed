// Copies sample/22-starter out of the repository, installs it with the tarball, and does what its README says.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync } from 'node:fs';
import { collect, freePort } from './first-screen.js';

export async function checkStarter(application, tarball) {
  cpSync('sample/22-starter', application, { recursive: true });
  const npm = (...args) => execFileSync('npm', args, { cwd: application, shell: true, stdio: 'pipe' });
  npm('install', tarball, '--silent', '--prefer-offline', '--no-audit', '--no-fund');
  npm('run', 'build');

  const port = await freePort();
  const server = spawn(process.execPath, ['dist/main.js'], { cwd: application, env: { ...process.env, PORT: port, NO_COLOR: '1' } });
  const log = collect(server);
  await log.has('successfully started');
  const url = `http://127.0.0.1:${port}/sign-ups/foo@example.com`;
  const response = await fetch(url, { method: 'POST' });
  assert.deepEqual(await response.json(), { message: 'Welcome! A mail is on its way.' });
  const logged = 'Welcome, foo@example.com';
  assert.ok(!log.text().includes(logged), 'The task did not wait for the response');
  // SIGTERM while the task is at work waits for it.
  server.kill('SIGTERM');
  await once(server, 'exit');
  assert.ok(log.text().includes(logged), log.text());
}
