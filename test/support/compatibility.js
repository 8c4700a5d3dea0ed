// A reporter of jest: after a run of all specs, it compares what ran with the tables of docs/compatibility.md. Each row whose last cell names
// tests, `by the beginning of their names`, says "yes" for the versions of Nest on which at least one of them ran, and all passed.
import { readFileSync } from 'node:fs';

const PAGE = 'docs/compatibility.md';

export default class CompatibilityReporter {
  #problems = [];

  constructor(globalConfig) {
    this.partial = globalConfig.nonFlagArgs.length > 0 || globalConfig.testNamePattern || globalConfig.onlyChanged || globalConfig.shard;
  }

  onRunComplete(_contexts, { testResults }) {
    if (this.partial) return;
    const tests = testResults.flatMap(({ displayName, testResults: results }) =>
      results.map(({ fullName, status }) => ({ nest: displayName?.name, fullName, status })),
    );
    for (const [row, ...cells] of readFileSync(PAGE, 'utf8').matchAll(/^\|[^|]+\|([^|]+)\|([^|]+)\| *`([^`]+)` *\|$/gm)) {
      const [nest11, nest12, name] = cells.map((cell) => cell.trim());
      for (const [nest, cell] of Object.entries({ 'nest 11': nest11, 'nest 12': nest12 })) {
        // A run of one project alone.
        if (!tests.some((test) => test.nest === nest)) continue;
        const ran = tests.filter((test) => test.nest === nest && test.fullName.startsWith(name));
        const passed = ran.length > 0 && ran.every(({ status }) => status === 'passed');
        if (passed !== cell.startsWith('yes')) {
          this.#problems.push(`${PAGE} says "${cell}" for ${nest}, and ${ran.length} tests ran as "${name}": ${row.trim()}`);
        }
      }
    }
    for (const problem of this.#problems) console.error(problem);
  }

  getLastError() {
    return this.#problems.length > 0 ? new Error(`${PAGE} does not say what the specs ran`) : undefined;
  }
}
