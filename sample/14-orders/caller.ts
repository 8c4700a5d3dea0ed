import type { ClsStore } from 'nestjs-cls';

/** On whose behalf the current code runs: that of a request, of a job, and of each of their tasks, in whatever process. */
export interface Caller extends ClsStore {
  tenant: string;
  user: string;
}
