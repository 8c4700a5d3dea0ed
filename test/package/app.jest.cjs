// Jest in CommonJS mode knows no `module-sync`: it loads what `require` names.
test('the application answers and runs its tasks', async () => {
  expect(require.resolve('nestjs-background-tasks')).toMatch(/cjs/);
  await require('./app.js').finished;
});
