import { Module } from '@nestjs/common';
import { BackgroundTasksModule } from 'nestjs-background-tasks';
import { isLeft } from './either.js';
import { ExportsController, UserLimit } from './exports.controller.js';
import { InvoicesController, Printer } from './invoices.controller.js';
import { LinksController } from './links.controller.js';
import { ReportsController } from './reports.controller.js';
import { Work } from './work.js';

@Module({
  imports: [
    BackgroundTasksModule.forRoot({
      around: async (_task, next) => {
        const result = await next();
        if (isLeft(result)) throw result.left;
        return result;
      },
    }),
  ],
  controllers: [ReportsController, ExportsController, LinksController, InvoicesController],
  providers: [UserLimit, Work, Printer],
})
export class AppModule {}
