import type { ExecutionContext } from '@nestjs/common';

/** Stands for one message to a gateway: Nest has an object for the connection, but none for the message. */
class GatewayMessage {}

export function messageOf(context: ExecutionContext): object | undefined {
  return context.getArgs().find((argument: unknown) => argument instanceof GatewayMessage);
}

/** Adds to the arguments of a handler what the factories of its parameters find the message by. */
export function beginMessage(context: ExecutionContext): object {
  const message = new GatewayMessage();
  const args: unknown[] = context.getArgs();
  // The last one is the pattern, and Nest looks for it there.
  args.splice(-1, 0, message);
  return message;
}
