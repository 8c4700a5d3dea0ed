import type { ClsStore } from 'nestjs-cls';

/** The tenant and user that the current code runs for: in a request, a job and each of their tasks, in every process. */
export interface Caller extends ClsStore {
  tenant: string;
  user: string;
}
