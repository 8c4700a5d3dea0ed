export type { BackgroundTasksOutbox, OutboxClient } from '../engine/outbox.js';
export { type TransactionalAdapter, transactionalTasks } from './transactional-tasks.js';
