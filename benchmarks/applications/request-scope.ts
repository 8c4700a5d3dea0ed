import { Scope } from '@nestjs/common';
import { throughProviders } from './providers.js';

export const ThroughTen = throughProviders(10, Scope.REQUEST);
