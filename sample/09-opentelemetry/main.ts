import { NestFactory } from '@nestjs/core';
import { AppModule } from './app.module.js';
import { sdk } from './tracing.js';

const app = await NestFactory.create(AppModule);
await app.listen(process.env['PORT'] ?? 3000);
console.log(`Listening on ${await app.getUrl()}`);

// The last tasks, and their spans, end while the application closes: shut the SDK down after it.
for (const signal of ['SIGTERM', 'SIGINT']) {
  process.once(signal, () => void app.close().then(() => sdk.shutdown()));
}
