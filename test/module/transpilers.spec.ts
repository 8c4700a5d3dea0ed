// Public API: the list is injected by type, whatever compiles the application.
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { describe, expect, it } from '@jest/globals';
import { transform as swc } from '@swc/core';
import { transform as esbuild } from 'esbuild';
import ts from 'typescript';
import { isNest12 } from '../support/app.js';

const app = './test/support/transpiled.app.ts';

/** Runs a program in a Node process of its own; resolves with the lines that it prints. */
function run(program: string): Promise<string[]> {
  return new Promise((resolve, reject) => {
    const args = ['--import', './test/support/typescript.js', '--input-type', 'module', '-'];
    const env = { ...process.env, NODE_OPTIONS: '', NEST: isNest12 ? '12' : '11' };
    const { stdin } = execFile(process.execPath, args, { env }, (error, stdout) =>
      error ? reject(error) : resolve(stdout.trim().split('\n')),
    );
    stdin!.end(program);
  });
}

const options = { experimentalDecorators: true, emitDecoratorMetadata: true };
const decorated = ['parameter of a handler', 'decorated parameter of a constructor'];

describe('an application compiled by', () => {
  it.each<[string, (source: string) => string | Promise<string>]>([
    [
      'tsc',
      (source) =>
        ts.transpile(source, { ...options, target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext, verbatimModuleSyntax: true }),
    ],
    [
      'SWC',
      async (source) =>
        (
          await swc(source, {
            swcrc: false,
            jsc: {
              parser: { syntax: 'typescript', decorators: true },
              transform: { legacyDecorator: true, decoratorMetadata: true },
              target: 'es2022',
            },
            module: { type: 'es6' },
          })
        ).code,
    ],
  ])('%s injects by type', async (_, compile) => {
    expect(await run(await compile(await readFile(app, 'utf8')))).toEqual([...decorated, 'type of a parameter of a constructor']);
  });

  it('esbuild, which writes down no types, injects where there is a decorator', async () => {
    const { code } = await esbuild(await readFile(app, 'utf8'), {
      loader: 'ts',
      target: 'es2022',
      tsconfigRaw: { compilerOptions: options },
    });
    expect(await run(code)).toEqual(decorated);
  });
});
