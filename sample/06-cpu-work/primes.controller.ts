import { Controller, Get, HttpCode, NotFoundException, Param, ParseIntPipe, Post } from '@nestjs/common';
import { BackgroundTasks } from 'nestjs-background-tasks';
import { Threads } from './threads.js';

@Controller('primes')
export class PrimesController {
  /** Grows with each requested number: an application keeps results in its database. */
  readonly #counts = new Map<number, number>();

  constructor(private readonly threads: Threads) {}

  @Post('below/:number')
  @HttpCode(202)
  count(@Param('number', ParseIntPipe) below: number, @BackgroundTasks() tasks: BackgroundTasks): void {
    tasks.addTask({ name: 'count primes' }, async () => {
      this.#counts.set(below, await this.threads.countPrimes(below));
    });
  }

  @Get('below/:number')
  get(@Param('number', ParseIntPipe) below: number) {
    const count = this.#counts.get(below);
    if (count === undefined) throw new NotFoundException(`The primes below ${below} have not been counted`);
    return { below, count };
  }
}
