import { Module, Scope } from '@nestjs/common';
import { BackgroundTasksModule } from 'nestjs-background-tasks';
import { SalesController } from './sales.controller.js';
import { Stock } from './stock.js';
import { Supplier } from './supplier.js';

@Module({
  imports: [BackgroundTasksModule.forRoot({ scope: Scope.DEFAULT })],
  controllers: [SalesController],
  providers: [Stock, Supplier],
})
export class AppModule {}
