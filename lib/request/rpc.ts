/** What Nest's microservices inject as REQUEST. */
interface RequestContextHost {
  getContext(): unknown;
  getPattern(): unknown;
}

/** The object that stands for a message: its context, of which a transport makes one for each. Undefined for a transport that gives none. */
export function messageOf([, context]: readonly unknown[]): object | undefined {
  return objectOrNone(context);
}

/** The same, from what is injected as REQUEST. */
export function messageOfHost(request: object): object | undefined {
  return isHost(request) ? objectOrNone(request.getContext()) : undefined;
}

export function isHost(request: object): request is RequestContextHost {
  return 'getContext' in request && typeof request.getContext === 'function' && 'getPattern' in request;
}

function objectOrNone(value: unknown): object | undefined {
  return typeof value === 'object' && value !== null ? value : undefined;
}
