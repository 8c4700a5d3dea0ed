// Builds lib/ twice: dist/esm for `import`, dist/cjs for `require`.
import { spawnSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';

for (const [type, directory, project] of [
  ['module', 'dist/esm', 'tsconfig.build.json'],
  ['commonjs', 'dist/cjs', 'tsconfig.build.cjs.json'],
]) {
  rmSync(directory, { recursive: true, force: true });
  const { status } = spawnSync(process.execPath, ['node_modules/typescript/bin/tsc', '--project', project], { stdio: 'inherit' });
  if (status !== 0) process.exit(1);
  // Node, TypeScript and bundlers read the nearest package.json, and no further.
  writeFileSync(`${directory}/package.json`, JSON.stringify({ type, sideEffects: false }));
}
