import { Scope } from '@nestjs/common';
import { throughProviders } from './providers.js';

export const ThroughOne = throughProviders(1, Scope.DEFAULT);
export const ThroughTen = throughProviders(10, Scope.DEFAULT);
