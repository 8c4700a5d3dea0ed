import { Injectable } from '@nestjs/common';
import { PassportStrategy } from '@nestjs/passport';
import { ClsService } from 'nestjs-cls';
import { ExtractJwt, Strategy } from 'passport-jwt';
import { jwtSecret } from './settings.js';
import type { Caller } from './caller.js';
import { UsersService } from './users.service.js';

/** The claims of a token. */
export interface Claims {
  readonly sub: string;
  readonly tenant: string;
}

@Injectable()
export class JwtStrategy extends PassportStrategy(Strategy) {
  constructor(
    private readonly users: UsersService,
    private readonly cls: ClsService<Caller>,
  ) {
    super({ jwtFromRequest: ExtractJwt.fromAuthHeaderAsBearerToken(), secretOrKey: jwtSecret });
  }

  validate(claims: Claims): Claims {
    this.cls.set('tenant', claims.tenant);
    this.cls.set('user', claims.sub);
    this.users.seen(claims.sub);
    return claims;
  }
}
