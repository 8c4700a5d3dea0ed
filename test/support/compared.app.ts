import { NestFactory } from '@nestjs/core';
import { ComparedModule, Events, type Settings } from './compared.js';

// A program that compared.spec.ts starts and ends: it prints one JSON object a line.

function say(event: object): void {
  process.stdout.write(`${JSON.stringify(event)}\n`);
}

const module = ComparedModule.with(JSON.parse(process.argv[2]!) as Settings);
const app = await NestFactory.create(module, { logger: ['error', 'log'] });
app.enableShutdownHooks();
const events = app.get(Events);
const add = events.add.bind(events);
events.add = (event) => {
  say({ event });
  add(event);
};
await app.listen(0, '127.0.0.1');
say({ url: await app.getUrl() });
