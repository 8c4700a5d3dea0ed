import { mkdirSync, writeFileSync } from 'node:fs';

/** One of the things that are compared. */
export interface Peer {
  readonly name: string;
  /** Does the work once. Returns what it measured, by the name of the figure with its unit. */
  round(): Promise<Figures>;
}

export type Figures = Record<string, number>;

/** `--quick` shows that everything runs; its numbers say little. */
export const quick = process.argv.includes('--quick');

const ROUNDS = quick ? 3 : 9;
/** Rounds that do not count: what V8 compiles, it compiles in these. */
const WARM_UP_ROUNDS = quick ? 1 : 4;

/** The measurements of the peers, round by round. */
export class Comparison {
  private constructor(
    private readonly title: string,
    private readonly rounds: ReadonlyMap<string, readonly Figures[]>,
  ) {}

  static async of(title: string, peers: readonly Peer[]): Promise<Comparison> {
    return Comparison.#saved(title, await Comparison.#takeTurns(peers));
  }

  /**
   * Compares several processes of each peer, one after the other: what V8 makes of a program differs from one process to the next, now and
   * then by a half.
   */
  static async ofProcesses(title: string, count: number, start: () => Promise<{ peers: readonly Peer[]; close(): Promise<unknown> }>) {
    const all = new Map<string, Figures[]>();
    for (let process = 0; process < count; process += 1) {
      const { peers, close } = await start();
      for (const [name, figures] of await Comparison.#takeTurns(peers)) all.set(name, [...(all.get(name) ?? []), ...figures]);
      await close();
    }
    return Comparison.#saved(title, all);
  }

  /** Has the peers take turns, A B C A B C …, so that what slows the machine down slows all of them. The first rounds are a warm-up. */
  static async #takeTurns(peers: readonly Peer[]): Promise<Map<string, Figures[]>> {
    const rounds = new Map<string, Figures[]>(peers.map(({ name }) => [name, []]));
    for (let round = -WARM_UP_ROUNDS; round < ROUNDS; round += 1) {
      for (const peer of peers) {
        const figures = await peer.round();
        if (round >= 0) rounds.get(peer.name)!.push(figures);
      }
    }
    return rounds;
  }

  static #saved(title: string, rounds: ReadonlyMap<string, readonly Figures[]>): Comparison {
    const comparison = new Comparison(title, rounds);
    comparison.#save();
    return comparison;
  }

  /** Prints each peer's figures, and the ratio of one of them to that of a baseline. */
  print(figure: string, baseline: string): void {
    const names = Object.keys(this.rounds.get(baseline)![0]!);
    const rows = [...this.rounds.keys()].map((name) => [
      name,
      ...names.map((each) => spread(this.#values(name, each), 1)),
      name === baseline ? '1' : spread(this.#ratios(name, baseline, figure), 2),
    ]);
    console.log(`\n### ${this.title}\n`);
    printTable(['', ...names, `${figure} / ${baseline}`], rows);
  }

  /** The ratio of one peer to another, to print beside the target. */
  ratio(name: string, baseline: string, figure: string): string {
    return spread(this.#ratios(name, baseline, figure), 2);
  }

  median(name: string, figure: string): number {
    return median(this.#values(name, figure));
  }

  get names(): string[] {
    return [...this.rounds.keys()];
  }

  #values(name: string, figure: string): number[] {
    return this.rounds.get(name)!.map((figures) => figures[figure]!);
  }

  /** Round by round: both have seen the same weather. */
  #ratios(name: string, baseline: string, figure: string): number[] {
    const base = this.#values(baseline, figure);
    return this.#values(name, figure).map((value, round) => value / base[round]!);
  }

  #save(): void {
    save(this.title, Object.fromEntries(this.rounds));
  }
}

/** Keeps the numbers themselves in `results/`. */
export function save(title: string, rounds: object): void {
  const directory = 'benchmarks/results';
  mkdirSync(directory, { recursive: true });
  const file = `${directory}/${title.toLowerCase().replaceAll(/\W+/g, '-')}.json`;
  writeFileSync(file, JSON.stringify({ date: new Date(), quick, rounds }, null, 2));
}

/** Prints what the issue of this package's speed is measured by: nothing fails when a ratio is above its target. */
export function printTargets(targets: readonly (readonly [what: string, measured: string, target: string])[]): void {
  console.log();
  printTable(['what', 'measured', 'target'], targets);
}

export function printTable(head: readonly string[], rows: readonly (readonly string[])[]): void {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  console.log([line(head), line(head.map((_, column) => (column ? '--:' : '---'))), ...rows.map(line)].join('\n'));
}

/** The median, and the lowest and highest. */
function spread(values: readonly number[], digits: number): string {
  const [low, middle, high] = [Math.min(...values), median(values), Math.max(...values)].map((value) => value.toFixed(digits));
  return low === high ? `${middle}` : `${middle} (${low}–${high})`;
}

function median(values: readonly number[]): number {
  return percentile(values, 0.5);
}

export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!;
}
