import type { ExecutionContext } from '@nestjs/common';
import { type HttpRequest, PerRequest, isHttpRequest, rawRequest } from '../nest-internals/requests.js';
import { BackgroundTasksError } from '../task/errors.js';

/**
 * The lifetime of each request, or the override of a test, by the one object that all code of the request has in common: the raw request, or
 * an object that stands for the message.
 */
export const lifetimes = new PerRequest<{ readonly injected: object }>('BackgroundTasks');

/** That object, among the arguments of a handler, by the type of its execution context. */
const REQUEST_OF: Record<string, (args: readonly unknown[]) => object | undefined> = {
  http: ([request]) => rawRequest(request as object),
  graphql: (args) => requestOfOperation(graphqlContext(args)),
  rpc: contextOfRpc,
  ws: messageOfGateway,
};

/** The object that stands for the request of an execution context; undefined if the context, or its transport, has none. */
export function requestOfContext(type: string, args: readonly unknown[]): object | undefined {
  return REQUEST_OF[type]?.(args);
}

/** The advice where Nest leaves global interceptors out. */
export const BIND_INTERCEPTOR =
  'a hybrid application also needs `connectMicroservice(options, { inheritAppConfig: true })`, and a gateway on Nest 11 ' +
  '`@UseInterceptors(BackgroundTasksInterceptor)`';

export const WITHOUT_CONTEXT = 'a message whose transport calls `handler(data)` without a context; let it call `handler(data, context)`';

/** The `BackgroundTasks` that a handler's parameter gets. */
export function tasksOfContext(context: ExecutionContext): object {
  const type = context.getType<string>();
  if (!REQUEST_OF[type]) {
    throw new BackgroundTasksError(
      'UNSUPPORTED_CONTEXT',
      `@BackgroundTasks() works in handlers of type ${Object.keys(REQUEST_OF).join(', ')}, and this one is of type "${type}"`,
    );
  }
  const request = requestOfContext(type, context.getArgs());
  if (type === 'rpc' && !request) {
    throw new BackgroundTasksError('UNSUPPORTED_CONTEXT', `@BackgroundTasks() needs a context of type "rpc", and got ${WITHOUT_CONTEXT}`);
  }
  const holder = request && lifetimes.get(request);
  const others = otherCopies();
  if (!holder && others.length > 0) {
    throw new BackgroundTasksError(
      'MODULE_NOT_IMPORTED',
      `@BackgroundTasks() found no list in this handler of type "${type}": the decorator is of one copy of nestjs-background-tasks, and ` +
        `BackgroundTasksModule may be of another. ${SEVERAL_COPIES}: ${others.join(', ')}`,
    );
  }
  if (!holder) {
    const whatElse = type === 'http' ? '' : `; ${BIND_INTERCEPTOR}`;
    throw new BackgroundTasksError(
      'MODULE_NOT_IMPORTED',
      `@BackgroundTasks() found no list in this handler of type "${type}": add BackgroundTasksModule to the imports of the root module${whatElse}`,
    );
  }
  return holder.injected;
}

/** An application of this process, as far as `BackgroundTasks.of()` needs it. */
export interface OpenApplication {
  /** Its HTTP server, if it has one. */
  server: unknown;
  /** The list of a request, or the override of a test. */
  tasksOf(request: object, type: string): object;
}

/** The applications that are open. */
export const applications = new Set<OpenApplication>();

/** `BackgroundTasks.of()`. */
export function tasksOf(source: ExecutionContext | object): object {
  const [request, type] = isExecutionContext(source) ? requestAndType(source) : requestAndTypeOf(source);
  const opened = request && lifetimes.get(request);
  if (opened) return opened.injected;
  const application = request && applicationOf(request);
  if (application) return application.tasksOf(request, type);
  throw new BackgroundTasksError(
    request ? 'MODULE_NOT_IMPORTED' : 'UNSUPPORTED_CONTEXT',
    request
      ? 'BackgroundTasks.of() found no application that has this request: add BackgroundTasksModule to the imports of the root module'
      : `BackgroundTasks.of() found no request in this context of type "${type}": call it in the handler, or in an interceptor`,
  );
}

function requestAndType(context: ExecutionContext): [request: object | undefined, type: string] {
  const type = context.getType<string>();
  return [requestOfContext(type, context.getArgs()), type];
}

/** Of a request, or of a GraphQL context. */
function requestAndTypeOf(source: HttpRequest & GraphqlContext): [request: object, type: string] {
  const raw = rawRequest(source);
  return isHttpRequest(raw) ? [raw, 'http'] : [requestOfOperation(source), 'graphql'];
}

function isExecutionContext(source: object): source is ExecutionContext {
  return 'getType' in source && 'getArgs' in source && typeof source.getArgs === 'function';
}

/** The application that has a request: the one whose server got it, or the only one. */
function applicationOf(request: object): OpenApplication | undefined {
  const [first, ...others] = applications;
  if (others.length === 0) return first;
  const server = (request as { socket?: { server?: unknown } }).socket?.server;
  return server === undefined ? undefined : [...applications].find((application) => application.server === server);
}

/** The context that the resolvers of an operation share: Nest puts the HTTP request into it, as `req`. */
export interface GraphqlContext {
  readonly req?: object;
}

/** The description of the field that a resolver gets. */
interface ResolveInfo {
  readonly operation: { readonly operation: 'query' | 'mutation' | 'subscription' };
  readonly path: { readonly prev: object | undefined };
}

/** The context among the arguments of a resolver: in front of the info, wherever that is. */
export function graphqlContext(args: readonly unknown[]): GraphqlContext {
  return args[args.findIndex(isResolveInfo) - 1] as GraphqlContext;
}

/** The HTTP request that all the resolvers of a query, or of a batch of them, answer; for an operation that came through a WebSocket, its context. */
export function requestOfOperation(context: GraphqlContext): object {
  const request = context.req && rawRequest(context.req);
  return request && isHttpRequest(request) ? request : context;
}

/** True if a resolver starts a subscription: it returns the events, and they end when the subscription does. */
export function startsSubscription(args: readonly unknown[]): boolean {
  const info = args.find(isResolveInfo);
  return info?.operation.operation === 'subscription' && info.path.prev === undefined;
}

function isResolveInfo(value: unknown): value is ResolveInfo {
  return typeof value === 'object' && value !== null && 'operation' in value && 'path' in value && 'parentType' in value;
}

/** The REQUEST that Nest's microservices inject. */
interface RequestContextHost {
  getContext(): unknown;
  getPattern(): unknown;
}

/** The object that stands for a message of a microservice: its context. A transport makes one for each message, or gives none. */
function contextOfRpc([, context]: readonly unknown[]): object | undefined {
  return objectOrNone(context);
}

/** That object, from the REQUEST that is injected. */
export function contextOfHost(request: object): object | undefined {
  return isRpcHost(request) ? objectOrNone(request.getContext()) : undefined;
}

export function isRpcHost(request: object): request is RequestContextHost {
  return 'getContext' in request && typeof request.getContext === 'function' && 'getPattern' in request;
}

function objectOrNone(value: unknown): object | undefined {
  return typeof value === 'object' && value !== null ? value : undefined;
}

/** Stands for one message to a gateway: Nest has an object for the connection, but none for the message. */
class GatewayMessage {}

function messageOfGateway(args: readonly unknown[]): object | undefined {
  return args.find((argument): argument is GatewayMessage => argument instanceof GatewayMessage);
}

/** Adds an object for the message to the arguments of a handler, where the factories of its parameters find it. */
export function beginGatewayMessage(context: ExecutionContext): object {
  const message = new GatewayMessage();
  const args: unknown[] = context.getArgs();
  // Nest looks for the pattern in the last argument.
  args.splice(-1, 0, message);
  return message;
}

/** The copies of this package in the process, by the folders that they are in. */
const COPIES = Symbol.for('nestjs-background-tasks:copies');

export const SEVERAL_COPIES =
  'This process has several copies of nestjs-background-tasks, and each knows only its own decorators and modules: `npm ls ' +
  'nestjs-background-tasks` finds them, `npm dedupe` or one version for all packages leaves one; and do not both import and require it. They are in';

/** Takes note of this copy, where it is used. */
export function registerCopy(): void {
  copies().add(folderOfCopy());
}

/** The folders of all copies, if there are several. */
export function otherCopies(): readonly string[] {
  const folders = [...copies()];
  return folders.length > 1 ? folders : [];
}

function copies(): Set<string> {
  const known: unknown = Reflect.get(globalThis, COPIES);
  if (known instanceof Set) return known;
  const made = new Set<string>();
  Reflect.set(globalThis, COPIES, made);
  return made;
}

/** By its stack: ES modules and CommonJS know their paths by different names. */
function folderOfCopy(): string {
  try {
    return (
      /(?:file:\/\/)?((?:\/|[A-Z]:\\)[^():]*?)[/\\]request[/\\]context\.[jt]s/.exec(String(new Error().stack))?.[1] ?? 'an unknown folder'
    );
  } catch {
    return 'an unknown folder';
  }
}
