import { outboxTables } from 'nestjs-background-tasks/outbox';
import type { MigrationInterface, QueryRunner } from 'typeorm';

export class Outbox1764288000000 implements MigrationInterface {
  async up(queryRunner: QueryRunner): Promise<void> {
    for (const sql of outboxTables('postgres')) await queryRunner.query(sql);
  }

  async down(queryRunner: QueryRunner): Promise<void> {
    await queryRunner.query('DROP TABLE background_tasks_outbox, background_tasks_outbox_done');
  }
}
