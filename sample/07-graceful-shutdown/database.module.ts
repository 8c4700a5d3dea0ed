import { Global, Module, type OnModuleDestroy } from '@nestjs/common';
import sqlite from 'node-sqlite3-wasm';

/** SQLite in a file. */
export class Database extends sqlite.Database {}

@Global()
@Module({
  providers: [
    {
      provide: Database,
      useFactory: () => {
        const database = new Database(process.env.DATABASE ?? 'orders.sqlite');
        database.run('create table if not exists orders (id text primary key, paid integer not null default 0)');
        return database;
      },
    },
  ],
  exports: [Database],
})
export class DatabaseModule implements OnModuleDestroy {
  constructor(private readonly database: Database) {}

  // Nest calls this when the tasks have ended, without any further setup.
  onModuleDestroy(): void {
    this.database.close();
    console.log('The database is closed');
  }
}
