// Compares the public API, as the declarations of the build have it, with test/package/api.txt; `--update` writes that file.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import ts from 'typescript';

const file = 'test/package/api.txt';
const { name, exports } = JSON.parse(readFileSync('package.json', 'utf8'));
const entries = Object.entries(exports).flatMap(([path, { import: entry }]) =>
  entry ? [[name + path.slice(1), resolve(entry.types)]] : [],
);

const program = ts.createProgram(
  entries.map(([, types]) => types),
  { module: ts.ModuleKind.NodeNext, target: ts.ScriptTarget.ES2022, strict: true, types: ['node'] },
);
const checker = program.getTypeChecker();
const text = entries.map(([entry, types]) => `${entry}\n${describeModule(types)}`).join('\n');

if (process.argv.includes('--update')) writeFileSync(file, text);
else if (!existsSync(file) || readFileSync(file, 'utf8') !== text) {
  writeFileSync('dist/api.txt', text);
  console.error(`The public API differs from ${file}; see \`git diff --no-index ${file} dist/api.txt\`.`);
  console.error('If that is meant: `npm run build && node scripts/check-api.js --update`, and a line in CHANGELOG.md.');
  process.exitCode = 1;
}

function describeModule(types) {
  const module = checker.getSymbolAtLocation(program.getSourceFile(types));
  const symbols = checker.getExportsOfModule(module).map((symbol) => {
    const target = symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol;
    return [`  ${symbol.name}: ${kinds(target)}`, ...describeValue(target), ...describeType(target)];
  });
  return `${symbols
    .sort(([a], [b]) => a.localeCompare(b, 'en'))
    .flat()
    .join('\n')}\n`;
}

function kinds({ flags }) {
  const names = { Function: 'function', Class: 'class', Interface: 'interface', TypeAlias: 'type', Variable: 'value', Enum: 'enum' };
  return Object.keys(names)
    .filter((kind) => flags & ts.SymbolFlags[kind])
    .map((kind) => names[kind])
    .join(' and ');
}

function describeValue(symbol) {
  if (!(symbol.flags & ts.SymbolFlags.Value)) return [];
  const type = checker.getTypeOfSymbol(symbol);
  const signatures = [
    ...type.getConstructSignatures().map((signature) => `    new ${print(signature)}`),
    ...type.getCallSignatures().map((signature) => `    ${print(signature)}`),
  ];
  return [...signatures, ...members(type, 'static ')];
}

function describeType(symbol) {
  if (symbol.flags & ts.SymbolFlags.TypeAlias) {
    return [
      `    = ${checker.typeToString(checker.getDeclaredTypeOfSymbol(symbol), undefined, ts.TypeFormatFlags.InTypeAlias | ts.TypeFormatFlags.NoTruncation)}`,
    ];
  }
  return symbol.flags & ts.SymbolFlags.Type ? members(checker.getDeclaredTypeOfSymbol(symbol), '') : [];
}

/** The members that this package declares, without inherited ones such as those of Error. */
function members(type, prefix) {
  return checker
    .getPropertiesOfType(type)
    .filter(({ name }) => !name.includes('#'))
    .filter(({ declarations }) => declarations?.some((declaration) => declaration.getSourceFile().fileName.includes('/dist/esm/')))
    .map((property) => {
      const optional = property.flags & ts.SymbolFlags.Optional ? '?' : '';
      const modifiers = property.declarations.map(ts.getCombinedModifierFlags);
      if (modifiers.some((flags) => flags & ts.ModifierFlags.Private)) return undefined;
      const access = modifiers.some((flags) => flags & ts.ModifierFlags.Protected) ? 'protected ' : '';
      return `    ${prefix}${access}${property.name}${optional}: ${checker.typeToString(checker.getTypeOfSymbol(property), undefined, ts.TypeFormatFlags.NoTruncation)}`;
    })
    .filter(Boolean);
}

function print(signature) {
  return checker.signatureToString(signature, undefined, ts.TypeFormatFlags.NoTruncation);
}
