// Checks the Markdown files: the code under a comment `<!-- path -->` stands in that file, which a test runs; relative links lead
// somewhere; each code of an error is explained; and the map of lib/ is complete.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

const pages = ['.', 'docs', 'sample', 'benchmarks'].filter(existsSync).flatMap((folder) =>
  readdirSync(folder)
    .filter((name) => name.endsWith('.md'))
    .map((name) => join(folder, name)),
);
const problems = [];

for (const page of pages) {
  const text = readFileSync(page, 'utf8');
  for (const [block, source, code] of text.matchAll(/(?:<!-- (\S+) -->\n\n)?```ts\n(.*?)```/gs)) {
    const where = `${page}:${text.slice(0, text.indexOf(block)).split('\n').length}`;
    if (!source) problems.push(`${where}: a snippet without the comment that names its file`);
    else if (!existsSync(source)) problems.push(`${where}: there is no ${source}`);
    else if (!flat(readFileSync(source, 'utf8')).includes(flat(code))) problems.push(`${where}: the snippet differs from ${source}`);
  }
  for (const [, target] of text.matchAll(/\]\((?!https?:|#|mailto:)([^)#\s]+)[^)]*\)/g)) {
    if (!existsSync(join(dirname(page), target))) problems.push(`${page}: the link to ${target} is dead`);
  }
}

const [, codes] = /BackgroundTasksErrorCode =([^;]*);/.exec(readFileSync('lib/background-tasks.errors.ts', 'utf8'));
const guide = readFileSync('docs/errors.md', 'utf8');
for (const [, code] of codes.matchAll(/'(\w+)'/g)) {
  if (!guide.includes(`\n## ${code}\n`)) problems.push(`docs/errors.md: there is no section ## ${code}`);
}

const map = readFileSync('CONTRIBUTING.md', 'utf8');
for (const file of readdirSync('lib', { recursive: true })) {
  const inMap = map.includes(`\`${file}\``) || map.includes(`\`${dirname(file)}/\``);
  if (file.endsWith('.ts') && !inMap) problems.push(`CONTRIBUTING.md: the map does not have lib/${file}`);
}

/** A snippet may be indented less than its file. */
function flat(code) {
  return code
    .split('\n')
    .map((line) => line.trim())
    .filter(Boolean)
    .join('\n');
}

for (const problem of problems) console.error(problem);
console.log(`Checked ${pages.length} pages`);
process.exitCode = problems.length > 0 ? 1 : 0;
