let count = 0;

/** The task of every application: it costs nothing, and tells whether it ran. */
export function sendNotification(_email: string): void {
  count += 1;
}

export async function sendNotificationAsync(_email: string): Promise<void> {
  count += 1;
}

/** How many tasks have run since this was asked last. */
export function sent(): number {
  const counted = count;
  count = 0;
  return counted;
}

let holding = 0;

/** The promise of a handler whose request stays in flight. */
export function hold(): Promise<never> {
  holding += 1;
  return new Promise(() => {});
}

/** How many requests are in flight for good. */
export function held(): number {
  return holding;
}

/** The response of every handler. */
export const answer = (): { message: string } => ({ message: 'Notification sent in the background' });
