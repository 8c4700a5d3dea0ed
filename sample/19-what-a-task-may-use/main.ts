import { NestFactory } from '@nestjs/core';
import session from 'express-session';
import { AppModule } from './app.module.js';

const app = await NestFactory.create(AppModule);
app.use(session({ secret: process.env.SESSION_SECRET ?? 'only for development', resave: false, saveUninitialized: false }));
app.enableShutdownHooks();
await app.listen(process.env.PORT ?? 3000);
