// Runs TypeScript in a plain Node process, as jest does in its own: `node --import ./test/support/typescript.js program.ts`, with Nest 12, or
// with Nest 11 under NEST=11.
import { readFileSync } from 'node:fs';
import module, { createRequire, register } from 'node:module';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { isMainThread } from 'node:worker_threads';
import { transformSync } from '@swc/core';

const library = new URL('../../lib', import.meta.url).href;
const nest11 = createRequire(new URL('../nest-11/package.json', import.meta.url));

export function resolve(specifier, context, next) {
  if (/^nestjs-background-tasks(\/|$)/.test(specifier))
    return next(`${specifier.replace('nestjs-background-tasks', library)}/index.ts`, context);
  if (
    process.env.NEST === '11' &&
    !isResolving &&
    /^(@nestjs\/(?!(?:event-emitter|jwt|schedule|terminus|typeorm)$)|@nestjs-cls\/transactional$|nestjs-cls|rxjs|reflect-metadata)/.test(
      specifier,
    )
  )
    // Nest 11 is CommonJS, and leaves extensions out. From Node 22 on, what it requires comes through here.
    return { url: pathToFileURL(resolveForNest11(specifier)).href, shortCircuit: true };
  const isSource = specifier.startsWith('.') && context.parentURL?.endsWith('.ts');
  return next(isSource ? specifier.replace(/\.js$/, '.ts') : specifier, context);
}

/** `registerHooks()` has what is resolved here come through the hooks, too. */
let isResolving = false;

function resolveForNest11(specifier) {
  isResolving = true;
  try {
    return nest11.resolve(specifier);
  } finally {
    isResolving = false;
  }
}

export function load(url, context, next) {
  if (!url.endsWith('.ts')) return next(url, context);
  const { code } = transformSync(readFileSync(new URL(url), 'utf8'), { filename: fileURLToPath(url) });
  return { format: 'module', source: code, shortCircuit: true };
}

// Node 20 has `register()` alone, which Node 26 warns of. Its hooks run in a thread of their own, which loads this file a second time.
if (module.registerHooks) module.registerHooks({ resolve, load });
else if (isMainThread) register(import.meta.url);
