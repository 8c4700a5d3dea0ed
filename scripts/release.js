// Runs every check that a release has to pass, and says how to publish. It publishes nothing itself.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

const { version } = JSON.parse(readFileSync('package.json', 'utf8'));
const tag = `v${version}`;

demand(git('status', '--porcelain') === '', 'there are changes that are not committed');
demand(git('tag', '--list', tag) === '', `${tag} has been released: raise \`version\` in package.json`);
demand(readFileSync('CHANGELOG.md', 'utf8').includes(`\n## ${version}\n`), `CHANGELOG.md has no section "## ${version}"`);
demand(
  !readFileSync('CHANGELOG.md', 'utf8').includes('## [Unreleased]'),
  `CHANGELOG.md has a section "Unreleased": move it into that of ${version}`,
);

execFileSync('bash', ['.ci/run'], { stdio: 'inherit' });
execFileSync('npm', ['pack', '--dry-run'], { stdio: 'inherit' });

console.log(
  `\n${tag} can be released: \`git tag ${tag} && git push origin ${tag}\`. The workflow "release" publishes it then, with provenance.`,
);

function git(...args) {
  return execFileSync('git', args, { encoding: 'utf8' }).trim();
}

function demand(condition, problem) {
  if (condition) return;
  console.error(`Not ready to be released: ${problem}`);
  process.exit(1);
}
