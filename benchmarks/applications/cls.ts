import { Module } from '@nestjs/common';
import { ClsModule } from 'nestjs-cls';
import { BareController } from './bare.js';

// In a file of its own: importing nestjs-cls enters an AsyncLocalStorage, which on Node 20 makes every promise of the process dearer.

@Module({ imports: [ClsModule.forRoot({ global: true, middleware: { mount: true } })], controllers: [BareController] })
export class ClsMounted {}
