// Types the first screen of the README into what `nest new` makes, and does what it says: compile, start, curl, stop, test.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';

const readme = readFileSync('README.md', 'utf8');
const [moduleFile, mainLines] = Array.from(readme.matchAll(/```ts\n(.*?)```/gs), ([, code]) => code);
const [, command, answer] = /```console\n\$ (.*)\n(.*)\n```/.exec(readme);
const [, logged] = /```text\n(.*)\n```/.exec(readme);

/** Makes an application with this version of Nest's CLI, and types the README into it. Throws if anything is not as the README says. */
export async function checkFirstScreen(directory, cli, tarball) {
  const application = join(directory, 'first-screen');
  mkdirSync(directory);
  const npm = (args, cwd) => execFileSync('npm', args, { cwd, shell: true, stdio: 'pipe' });
  npm(
    [
      'exec',
      '--yes',
      '--prefer-offline',
      `--package=@nestjs/cli@${cli}`,
      '--',
      'nest',
      'new',
      'first-screen',
      '--skip-install',
      '--skip-git',
      '-p',
      'npm',
    ],
    directory,
  );
  npm(['install', tarball, '--silent', '--prefer-offline', '--no-audit', '--no-fund'], application);

  writeFileSync(join(application, 'src/app.module.ts'), moduleFile);
  // The second line is new; those around it are there.
  const [create, added, listen] = mainLines.trimEnd().split('\n');
  edit(join(application, 'src/main.ts'), `${create}\n  ${listen}`, `${create}\n  ${added}\n  ${listen}`);
  npm(['run', 'build'], application);

  const port = await freePort();
  const server = spawn(process.execPath, ['dist/main.js'], { cwd: application, env: { ...process.env, PORT: port, NO_COLOR: '1' } });
  const log = collect(server);
  await log.has('successfully started');
  const [program, ...args] = command.replace('3000', port).split(' ');
  assert.equal(execFileSync(program, [...args, '--silent'], { encoding: 'utf8' }), answer);
  assert.ok(!log.text().includes(logged), 'The task did not wait for the response');
  await log.has(logged);
  // SIGTERM while a task is at work waits for it.
  execFileSync(program, [...args, '--silent']);
  server.kill('SIGTERM');
  await once(server, 'exit');
  assert.equal(log.text().split(logged).length - 1, 2, log.text());

  npm(['run', 'test'], application);
  npm(['run', 'test:e2e'], application);
}

export function edit(file, from, to) {
  const text = readFileSync(file, 'utf8');
  assert.ok(text.includes(from), `${file} has no ${from}`);
  writeFileSync(
    file,
    text.replace(from, () => to),
  );
}

export async function freePort() {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address();
  probe.close();
  return String(port);
}

/** The output of a process. `has` waits for a text, so many times, and rejects if the process ends without it. */
export function collect(child) {
  let text = '';
  const streams = [child.stdout, child.stderr];
  for (const stream of streams) stream.on('data', (chunk) => (text += chunk));
  const has = (part, times = 1) =>
    new Promise((resolve, reject) => {
      const look = () => text.split(part).length > times && resolve();
      for (const stream of streams) stream.on('data', look);
      child.once('exit', () => reject(new Error(`The application has ended without "${part}":\n${text}`)));
      look();
    });
  return { text: () => text, has };
}
