import { Column, Entity, PrimaryColumn } from 'typeorm';

@Entity('orders')
export class Order {
  @PrimaryColumn('text')
  id!: string;

  @Column('text')
  tenant!: string;

  @Column('text')
  user!: string;

  @Column('text', { default: 'placed' })
  state!: 'placed' | 'closed';
}
