/** @module nestjs-background-tasks/outbox */
export type { BackgroundTasksOutbox, OutboxClient } from '../engine/outbox.js';
export { fromDrizzle, fromKnex, fromKysely, fromMikroOrm, fromMysql2, fromPg, fromPrisma, fromTypeOrm } from './clients.js';
export type { OutboxDialect } from './dialects.js';
export { type SqlOutboxOptions, outboxTables, sqlOutbox } from './sql-outbox.js';
export { type TransactionalAdapter, transactionalTasks } from './transactional-tasks.js';
