import { Entity, PrimaryColumn } from 'typeorm';

/** Who has been here. */
@Entity('visits')
export class Visit {
  @PrimaryColumn('text')
  user!: string;
}
