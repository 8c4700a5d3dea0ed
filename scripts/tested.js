// The versions that a run of all checks has tested, and the rows of docs/compatibility.md that name them: `node scripts/tested.js` compares the two,
// `node scripts/tested.js --update` writes the page.
import { appendFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { argv, env } from 'node:process';
import { fileURLToPath } from 'node:url';

const PAGE = 'docs/compatibility.md';

/** The rows, and how each of them shows a version. */
const ROWS = {
  Node: (version) => (version === `${lowestNode()}.0` ? version : version.split('.')[0]),
  Nest: String,
  Express: String,
  Fastify: String,
  rxjs: String,
  'reflect-metadata': String,
  BullMQ: String,
  OpenTelemetry: String,
  TypeScript: String,
  moduleResolution: (name) => `\`${name}\``,
};

/** Notes versions that have passed, one for each name of a row. `.ci/run` says in `TESTED` where; any other run notes nothing. */
export function noteTested(versions) {
  if (!env.TESTED) return;
  mkdirSync(dirname(env.TESTED), { recursive: true });
  appendFileSync(env.TESTED, `${JSON.stringify(versions)}\n`);
}

if (argv[1] === fileURLToPath(import.meta.url)) {
  if (!env.TESTED) fail('`TESTED` names the file that the run has noted its versions in: see .ci/run');
  const noted = readFileSync(env.TESTED, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  const page = readFileSync(PAGE, 'utf8');
  const [table] = /^\|.+?\n(?!\|)/ms.exec(page);
  const written = page.replace(table, tableOf(table, noted));
  if (written !== page && !argv.includes('--update')) {
    fail(`${PAGE} does not say what was tested. \`node scripts/tested.js --update\` makes it:\n${tableOf(table, noted)}`);
  }
  writeFileSync(PAGE, written);
}

/** The table with the noted versions in the rows that have some; other rows stay. */
function tableOf(table, noted) {
  const rows = table
    .trim()
    .split('\n')
    .map((line) =>
      line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
  for (const row of rows) {
    const show = ROWS[row[0]];
    if (!show) continue;
    const versions = noted.flatMap((versions) => versions[row[0]] ?? []).toSorted((a, b) => a.localeCompare(b, 'en', { numeric: true }));
    row[1] = [...new Set(versions.map(show))].join(', ');
  }
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => (/^-+$/.test(row[column]) ? 0 : row[column].length))));
  return rows
    .map(
      (row) =>
        `| ${row.map((cell, column) => (/^-+$/.test(cell) ? '-'.repeat(widths[column]) : cell.padEnd(widths[column]))).join(' | ')} |\n`,
    )
    .join('');
}

function lowestNode() {
  return /\d+\.\d+/.exec(JSON.parse(readFileSync('package.json', 'utf8')).engines.node)[0];
}

function fail(message) {
  console.error(message);
  process.exit(1);
}
