import { Controller, HttpCode, Param, Post, Req } from '@nestjs/common';
import { Subscribers } from './subscribers.js';

@Controller('subscribers')
export class SubscribersController {
  constructor(private readonly subscribers: Subscribers) {}

  @Post(':email')
  @HttpCode(202)
  async add(@Param('email') email: string, @Req() request: object): Promise<void> {
    await this.subscribers.add(email, request);
    if (email.startsWith('invalid')) throw new Error('There is no such address');
  }
}
