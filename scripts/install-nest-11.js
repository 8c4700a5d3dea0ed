// Installs what test/nest-11 locks, unless it is installed already: the "nest 11" half of the specs runs on it.
import { execSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';

const dir = 'test/nest-11';
const lock = readFileSync(`${dir}/package-lock.json`, 'utf8');
const installed = `${dir}/node_modules/.installed-lock.json`;

if (!existsSync(installed) || readFileSync(installed, 'utf8') !== lock) {
  execSync('npm ci --no-audit --no-fund', { cwd: dir, stdio: 'inherit' });
  writeFileSync(installed, lock);
}
