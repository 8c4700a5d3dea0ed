// Guide: docs/troubleshooting.md, which spec shows each of its symptoms.
import { readFileSync } from 'node:fs';
import { describe, expect, it } from '@jest/globals';
import ts from 'typescript';

const guide = readFileSync('docs/troubleshooting.md', 'utf8');

const MAIN = 'test/guides/troubleshooting.spec.ts';
const PACKAGE_CHECK = 'test/package/check.js';

/** The files and the titles that show each symptom of the page, by its heading, or by the first cell of its row. */
const shown: Record<string, Record<string, string[]>> = {
  "Nest can't resolve dependencies of the QueryLog (?)": {
    [MAIN]: [
      'quotes the error of Nest for a list that is imported as a type',
      'quotes the error of Nest for a list that is imported as a type, compiled by tsc',
      'quotes the error of Nest for a list that may be undefined, compiled by %s',
      'is right that the rule consistent-type-imports makes an import of a type out of one of a value',
      'quotes the error of Nest for a list that no module provides',
    ],
    'test/module/transpilers.spec.ts': ['%s injects by type'],
    'test/module/module.spec.ts': ['works by plain import', 'false keeps the providers to the importing module: %s'],
  },
  "Nest can't resolve dependencies … ModulesContainer": {
    [MAIN]: ['quotes the error of Nest for a package that finds another copy of Nest'],
    [PACKAGE_CHECK]: [
      'Nest 12, ES modules: compiles, answers, then runs its tasks',
      'a monorepo with Nest 11 and 12: one application fails at the start, and none with a single version or a nested installation',
    ],
  },
  'This process has several copies of nestjs-background-tasks': {
    'test/module/copies.spec.ts': ['are told at boot and in the error of the parameter, with the folders of both'],
    [PACKAGE_CHECK]: ['Nest 12: import and require give the same tokens', 'Nest 11: import and require give the same tokens'],
  },
  'BackgroundTasks is marked as a scoped provider': {
    [MAIN]: ['quotes the error of Nest for app.get(BackgroundTasks), and the cure works'],
  },
  '@BackgroundTask() is for methods': {
    [MAIN]: ['quotes the error for the decorator of a method on a parameter, and the cure works'],
  },
  'Expected the option … to be a positive integer, got … (string)': {
    [MAIN]: ['quotes the error for an option that is a string, and the cure works'],
  },
  TS1272: { [MAIN]: ['quotes TS1272, the error of tsc for another type of the signature: %s'] },
  '@typescript-eslint/unbound-method': {
    [MAIN]: ['quotes the error of the rule unbound-method, and both cures silence it'],
    'test/engine/engine.spec.ts': ['runs tasks on their provider, in this process or in a worker process'],
  },
  'npm error ERESOLVE': { [PACKAGE_CHECK]: ['npm refuses Nest 10 with ERESOLVE, and takes the package with Nest 11'] },
  'EADDRINUSE after a hot reload': {
    [MAIN]: ['quotes the error of Node for an application that starts before the last one has ended its tasks, and the cure works'],
    [PACKAGE_CHECK]: ['nest start --watch starts the next application too early, and after the tasks with --no-shell:'],
  },
  'A hook such as onModuleInit is not called': {
    [MAIN]: ['is right that Nest calls no onModuleInit() of a request-scoped provider, and that Scope.DEFAULT cures it'],
    'test/module/boot-warnings.spec.ts': [
      'is named at boot, once, with the way that leads there, if it counts on being made once',
      'does not exist under Scope.DEFAULT',
    ],
    'test/http/injection.spec.ts': ['does not make its controller request-scoped'],
  },
  'The APP_GUARD provider depends on a request-scoped provider': {
    [MAIN]: ['quotes the error of Nest for a global enhancer that injects the list, and the cure works'],
    'test/module/request-scoped-warning.spec.ts': [
      'without a scope is named with what to do, in versions of Nest that start with it',
      'with one is named with how many classes it takes along, and which of them should be singletons',
    ],
  },
  'A request-scoped Passport strategy is never registered': {
    [MAIN]: ['quotes the error at boot for a Passport strategy that injects the list, and the cure works'],
    'test/module/request-scoped-warning.spec.ts': ['is an error at boot, if it is %s'],
  },
  'This version of Nest differs from those that nestjs-background-tasks was tested with': {
    'test/module/request-scoped-warning.spec.ts': ['starts without %s, and says that it could not check'],
    'test/module/another-nest.spec.ts': ['there is no warning, and a shutdown waits for a task before it destroys modules'],
  },
  "Cannot read properties of undefined (reading 'addTask')": {
    [MAIN]: ['quotes the error of a handler whose parameter lacks its decorator, and the cure works'],
    'test/guides/testing-guide.spec.ts': ['adds the tasks'],
    'test/module/transpilers.spec.ts': ['esbuild, which writes down no types, injects where there is a decorator'],
  },
  'Cannot read properties of undefined in a task': {
    [MAIN]: ['quotes the error of a task that is a method without its `this`, and the cure works'],
  },
  'ENOENT, an empty body, or undefined in a task': {
    'test/samples/files.spec.ts': ['finds no file of saveRequestFiles()', 'finds no part if it is the first to ask'],
    'test/guides/what-a-task-may-use.spec.ts': [
      'no bytes of a body that nobody read before',
      'no address of a client that has closed its connection',
      'a body that was read in the handler is there',
      'values of the request are arguments',
    ],
  },
  '`… was discarded: …` in the log': { [MAIN]: ['quotes the line of a task that was discarded, and `runOn` is the cure'] },
  'the handler uses `@Res()`, or streams': {
    [MAIN]: ['a task waits until a handler that sends by hand has ended the response'],
    'test/http/response-paths.spec.ts': ['%s is a success'],
  },
  'the response is out, but the handler still awaits something': { 'test/http/running.spec.ts': ['although the response is over'] },
  'an earlier task of the request never ends': {
    'test/http/running.spec.ts': ['sync and async, each awaited'],
    'test/outcome/failure.spec.ts': ['aborts the task and goes on, and the log says that its function $what in the end'],
  },
  'a handler, or a task, never ends': {
    'test/http/waits-for-itself.spec.ts': [
      '`await %s` %s is warned of after 10 s',
      'nothing is said of promises that settle, nor of code outside that waits for a slow task',
    ],
  },
  'tasks never end under `concurrency`': { [MAIN]: ['a task that waits for another one never ends if that has no place: %s'] },
  '`runner.activeCount` stays at `concurrency`': { [MAIN]: ['a task that never ends keeps its place: %s'] },
  'in a test, under fake timers': {
    'test/guides/testing-guide.spec.ts': [
      'with the global setTimeout(), until the time is advanced',
      'with node:timers/promises, for as long as it takes: that pause is real',
    ],
  },
  'in a test, with a list made by hand': { 'test/http/list-made-by-hand.spec.ts': ['keeps what was added, and runs it when told to'] },
  'a `@BackgroundTask()` method with an engine': {
    'test/engine/in-process-engine.spec.ts': ['runs none with `worker: false`'],
    'test/engine/engine.spec.ts': ['runs tasks on their provider, in this process or in a worker process'],
  },
  'on Lambda, Vercel or the like': {
    'test/samples/serverless.spec.ts': [
      'without any of these, the tasks wait for the thaw',
      'and are lost if it never comes',
      '%s: the tasks have run by the time that the client has its answer',
      'vercel: the client has its answer first, and the function is frozen when the tasks have run',
    ],
  },
  'A task starts while the handler is still running': {
    'test/guides/what-a-task-may-use.spec.ts': [
      'belongs to no request: its tasks start at once, also if the request fails',
      'a singleton resolves the list of the request',
    ],
    'test/http/scope-default.spec.ts': ['a task starts on the next tick, tracked'],
  },
  'A retried handler sends several mails': {
    [MAIN]: ['is right that each attempt adds its tasks, unless it has a list of its own'],
    'test/guides/tried-again.spec.ts': ['sends one mail for each order: %s'],
  },
  'A client gets 503, and its work was done': {
    'test/guides/transactions.spec.ts': [
      'a task that is refused after the commit answers 503, and a retry finds the row',
      'a task that is refused inside of the transaction rolls it back, and a retry finds nothing in its way',
      'an engine that is away answers 503 after the commit; a retry meets the row, unless the handler is idempotent',
    ],
    'test/samples/too-busy.spec.ts': ['takes one image at work and two that wait; then uploads are refused, and views do without'],
  },
  'Tasks are lost at SIGTERM': {
    [MAIN]: [
      'the process waits for tasks with shutdown hooks alone, and not if something else ends it',
      'a shell may keep the signal to itself: the application goes on, and does not know',
    ],
    'test/module/signals-warning.spec.ts': ['warns with its first task if nothing listens for SIGTERM, and no more after that'],
    [PACKAGE_CHECK]: ['sample/22-starter, on its own: builds, answers, and waits for its task'],
  },
  'A shutdown takes its whole time': {
    [MAIN]: [
      'a task that waits for `runner.closing` ends as the shutdown begins, and one that waits for its own signal at the deadline',
      'the connection of a request that was at work at the deadline holds up the end: %s',
    ],
    'test/shutdown/shutdown.spec.ts': [
      'signals fire, each unfinished task is reported by name, and the application closes',
      '%s: every task of every request that was answered runs before the first database disconnects',
    ],
    'test/shutdown/strangers.spec.ts': ['has `closing` fire first, which ends event streams and long polls'],
  },
};

/** The titles in a spec, and those of what the check of the package says. */
function titlesIn(file: string): string[] {
  const titles: string[] = [];
  const source = ts.createSourceFile(file, readFileSync(file, 'utf8'), ts.ScriptTarget.Latest);
  const visit = (node: ts.Node): void => {
    if (ts.isCallExpression(node) && /^\s*(it|check|console\.log)\b/.test(node.expression.getText(source))) {
      const [title] = node.arguments;
      if (title && ts.isStringLiteralLike(title)) titles.push(title.text.replace(/^ok {2}/, ''));
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  return titles;
}

const ROWS = 'Tasks do not start';
const headings = Array.from(guide.matchAll(/^## (.*)$/gm), ([, heading]) => heading!);

describe('docs/troubleshooting.md', () => {
  it('has no symptom that is not shown, and nothing is shown that it does not have', () => {
    const [table] = guide.split(`## ${ROWS}`)[1]!.split('\n## ');
    const [, , ...rows] = Array.from(table!.matchAll(/^\| (.*?) +\|/gm), ([, symptom]) => symptom!);
    expect(Object.keys(shown).toSorted()).toEqual([...headings.filter((heading) => heading !== ROWS), ...rows].toSorted());
  });

  it('lists all of its symptoms at the top', () => {
    expect(new Set(guide.split('\n## ')[0]!.match(/\(#.*?\)/g)).size).toBe(headings.length);
  });

  it.each(Object.entries(shown))('%s: the specs have the titles', (_, files) => {
    for (const [file, titles] of Object.entries(files)) expect(titlesIn(file)).toEqual(expect.arrayContaining(titles));
  });

  it('has nothing else in its spec', () => {
    const titles = Object.values(shown).flatMap((files) => files[MAIN] ?? []);
    expect(titlesIn(MAIN).toSorted()).toEqual(titles.toSorted());
  });
});
