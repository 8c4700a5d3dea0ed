import type { ExecutionContext } from '@nestjs/common';

/** Stands for one message to a gateway: Nest has an object for the connection, but none for the message. */
class GatewayMessage {}

export function messageOf(args: readonly unknown[]): object | undefined {
  return args.find((argument): argument is GatewayMessage => argument instanceof GatewayMessage);
}

/** Adds to the arguments of a handler what the factories of its parameters find the message by. */
export function beginMessage(context: ExecutionContext): object {
  const message = new GatewayMessage();
  const args: unknown[] = context.getArgs();
  // The last one is the pattern, and Nest looks for it there.
  args.splice(-1, 0, message);
  return message;
}
