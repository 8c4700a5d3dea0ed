import { NestFactory } from '@nestjs/core';
import { AppModule } from './app.module.js';
import { sdk } from './tracing.js';

const app = await NestFactory.create(AppModule);
await app.listen(process.env['PORT'] ?? 3000);
console.log(`Listening on ${await app.getUrl()}`);

// The last tasks end while the application closes, and their spans with them: the SDK goes after it.
for (const signal of ['SIGTERM', 'SIGINT']) {
  process.once(signal, () => void app.close().then(() => sdk.shutdown()));
}
