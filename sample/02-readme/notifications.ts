export const sent: [email: string, message: string][] = [];

export function writeNotification(email: string, message: string): void {
  sent.push([email, message]);
}
