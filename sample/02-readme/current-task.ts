import { currentTask } from 'nestjs-background-tasks';

export async function reindex(id: string): Promise<void> {
  const signal = currentTask()?.signal;
  await fetch(`http://127.0.0.1:9200/orders/${id}/_refresh`, { method: 'POST', ...(signal && { signal }) });
}
