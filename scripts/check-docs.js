// Checks the Markdown files:
// - A snippet is part of the file that is named in a comment `<!-- path -->` above it or in its first line. A test runs that file.
// - Links into the repository are alive, also from the packed package.
// - docs/errors.md explains each code of an error, and each line of the log that it lists is in lib/.
// - The map of lib/ in CONTRIBUTING.md is complete.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';

const pages = ['.', 'docs', 'sample', 'benchmarks'].filter(existsSync).flatMap((folder) =>
  readdirSync(folder)
    .filter((name) => name.endsWith('.md'))
    .map((name) => join(folder, name)),
);
const problems = [];

const repository = /^https:\/\/github\.com\/nestjs-background-tasks\/nestjs-background-tasks\/(?:blob|tree)\/main\//;
/** What npm packs beside the code. A relative link out of it is dead in `node_modules`. */
const isPacked = (file) => /^(README|CHANGELOG|LICENSE|docs\/[^/]+)(\.md)?$/.test(file);

for (const page of pages) {
  const text = readFileSync(page, 'utf8');
  for (const [block, comment, code] of text.matchAll(/(?:<!-- (\S+) -->\n\n)?```[jt]s\n(.*?)```/gs)) {
    const where = `${page}:${text.slice(0, text.indexOf(block)).split('\n').length}`;
    // In a guide the first line of a snippet names its file, for the reader to find the rest.
    const [, named, rest] = /^\/\/ (\S+\.\w+)\n(.*)$/s.exec(code) ?? [];
    const source = comment ?? named;
    if (!source || (comment && page !== 'README.md')) problems.push(`${where}: a snippet without the name of its file in its first line`);
    else if (!existsSync(source)) problems.push(`${where}: there is no ${source}`);
    else if (!hasInOrder(flat(readFileSync(source, 'utf8')), flat(comment ? code : rest))) {
      problems.push(`${where}: the snippet differs from ${source}`);
    }
  }
  for (const [, link] of text.matchAll(/\]\((?!mailto:)([^)\s]+)\)/g)) {
    const [target, anchor] = link.replace(repository, `${relative(dirname(page), '.') || '.'}/`).split('#');
    if (/^https?:/.test(target)) continue;
    const file = target ? join(dirname(page), target) : page;
    if (!existsSync(file)) problems.push(`${page}: the link to ${link} is dead`);
    else if (anchor && !anchors(file).has(anchor)) problems.push(`${page}: the link to ${link} is dead, there is no such heading`);
    if (isPacked(page) && !isPacked(file) && !repository.test(link)) {
      problems.push(`${page}: the link to ${link} is dead in node_modules, it has to be absolute`);
    }
  }
}

const [, codes] = /BackgroundTasksErrorCode =([^;]*);/.exec(readFileSync('lib/task/errors.ts', 'utf8'));
const guide = readFileSync('docs/errors.md', 'utf8');
for (const [, code] of codes.matchAll(/'(\w+)'/g)) {
  if (!guide.includes(`\n## ${code}\n`)) problems.push(`docs/errors.md: there is no section ## ${code}`);
}

const sources = readdirSync('lib', { recursive: true })
  .filter((file) => file.endsWith('.ts'))
  .map((file) => readFileSync(join('lib', file), 'utf8'))
  .join('');
for (const [, line] of guide.slice(guide.indexOf('## Lines in the log')).matchAll(/^\| `\w+` +\| (.*?) +\|/gm)) {
  // `…` stands for the changing parts. In the source, a backtick of a line may be escaped.
  const parts = line.split(/…|`/).map((part) => part.trim().replace(/[:;,]$/, ''));
  for (const part of parts)
    if (/\w/.test(part) && !sources.includes(part)) problems.push(`docs/errors.md: no line of the log has "${part}"`);
}

const map = readFileSync('CONTRIBUTING.md', 'utf8');
for (const file of readdirSync('lib', { recursive: true })) {
  const inMap = map.includes(`\`${file}\``) || map.includes(`\`${dirname(file)}/\``);
  if (file.endsWith('.ts') && !inMap) problems.push(`CONTRIBUTING.md: the map does not have lib/${file}`);
}

/** The anchors of a page's headings, as GitHub makes them. */
function anchors(file) {
  const headings = readFileSync(file, 'utf8').matchAll(/^#+ (.*)$/gm);
  return new Set(
    Array.from(headings, ([, heading]) =>
      heading
        .toLowerCase()
        .replace(/[^\p{L}\p{N}_ -]/gu, '')
        .replaceAll(' ', '-'),
    ),
  );
}

/** A line `// …` in a snippet stands for what is left out of the file. */
function hasInOrder(file, code) {
  let from = 0;
  return code.split(/^\/\/ …$/m).every((part) => {
    const at = file.indexOf(part.trim(), from);
    from = at + part.trim().length;
    return at >= 0;
  });
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
