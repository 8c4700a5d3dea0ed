import type { ClsStore } from 'nestjs-cls';

/** What goes with a request, with a job, and with each of their tasks. */
export interface TenantStore extends ClsStore {
  tenant: string;
}
