import { Body, Controller, HttpCode, Param, Post, Put, UseGuards } from '@nestjs/common';
import { JwtService } from '@nestjs/jwt';
import { AuthGuard } from '@nestjs/passport';
import type { Claims } from './jwt.strategy.js';
import { OrdersService } from './orders.service.js';

@Controller()
export class OrdersController {
  constructor(
    private readonly orders: OrdersService,
    private readonly jwt: JwtService,
  ) {}

  /** Stands in for a login: it accepts everybody. */
  @Post('login')
  @HttpCode(200)
  login(@Body() claims: Claims) {
    return { token: this.jwt.sign({ sub: claims.sub, tenant: claims.tenant }) };
  }

  @Put('orders/:id')
  @UseGuards(AuthGuard('jwt'))
  async place(@Param('id') id: string) {
    await this.orders.place(id);
    return { id };
  }
}
