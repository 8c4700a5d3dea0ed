import { Entity, PrimaryColumn } from 'typeorm';

/** A visit of a user. */
@Entity('visits')
export class Visit {
  @PrimaryColumn('text')
  user!: string;
}
