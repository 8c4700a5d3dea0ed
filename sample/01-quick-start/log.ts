import { appendFile } from 'node:fs/promises';

export async function writeLog(message: string): Promise<void> {
  await appendFile('log.txt', message);
}
