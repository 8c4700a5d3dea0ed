import type { ExecutionContext } from '@nestjs/common';
import { type HttpRequest, PerRequest, isHttpRequest, rawRequest } from '../nest-internals/requests.js';
import { BackgroundTasksError } from '../task/errors.js';

/**
 * Maps each request to its lifetime, or to the override of a test. The key is the object that all code of a request shares: the raw
 * request, or an object that represents the message.
 */
export const lifetimes = new PerRequest<{ readonly injected: object }>('BackgroundTasks');

/** Finds that key among the arguments of a handler, for each type of execution context. */
const REQUEST_OF: Record<string, (args: readonly unknown[]) => object | undefined> = {
  http: ([request]) => rawRequest(request as object),
  graphql: (args) => requestOfOperation(graphqlContext(args)),
  rpc: contextOfRpc,
  ws: messageOfGateway,
};

/** The object that represents the request of an execution context; undefined if the context or its transport has none. */
export function requestOfContext(type: string, args: readonly unknown[]): object | undefined {
  return REQUEST_OF[type]?.(args);
}

/** The advice for handlers that Nest calls without global interceptors. */
export const BIND_INTERCEPTOR =
  'a hybrid application also needs `connectMicroservice(options, { inheritAppConfig: true })`, and a gateway on Nest 11 ' +
  '`@UseInterceptors(BackgroundTasksInterceptor)`';

export const WITHOUT_CONTEXT = 'a message whose transport calls `handler(data)` without a context; let it call `handler(data, context)`';

/** The `BackgroundTasks` for a parameter of a handler. */
export function tasksOfContext(context: ExecutionContext): object {
  const type = context.getType<string>();
  if (!REQUEST_OF[type]) {
    throw new BackgroundTasksError(
      'BACKGROUND_TASK_UNSUPPORTED_CONTEXT',
      `@BackgroundTasks() works in handlers of type ${Object.keys(REQUEST_OF).join(', ')}; this one has the type "${type}"`,
    );
  }
  const request = requestOfContext(type, context.getArgs());
  if (type === 'rpc' && !request) {
    throw new BackgroundTasksError(
      'BACKGROUND_TASK_UNSUPPORTED_CONTEXT',
      `@BackgroundTasks() needs a context of type "rpc", and got ${WITHOUT_CONTEXT}`,
    );
  }
  const holder = request && lifetimes.get(request);
  if (holder) return holder.injected;
  const others = otherCopies();
  if (others.length > 0) {
    throw new BackgroundTasksError(
      'BACKGROUND_TASK_MODULE_NOT_IMPORTED',
      `@BackgroundTasks() found no list in this handler of type "${type}": the decorator and BackgroundTasksModule may come from different copies ` +
        `of nestjs-background-tasks. ${SEVERAL_COPIES}: ${others.join(', ')}`,
    );
  }
  const more = type === 'http' ? '' : `; ${BIND_INTERCEPTOR}`;
  throw new BackgroundTasksError(
    'BACKGROUND_TASK_MODULE_NOT_IMPORTED',
    `@BackgroundTasks() found no list in this handler of type "${type}": add BackgroundTasksModule to the imports of the root module${more}`,
  );
}

/** The part of an open application that `BackgroundTasks.of()` needs. */
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
    request ? 'BACKGROUND_TASK_MODULE_NOT_IMPORTED' : 'BACKGROUND_TASK_UNSUPPORTED_CONTEXT',
    request
      ? 'BackgroundTasks.of() found no application that has this request: add BackgroundTasksModule to the imports of the root module'
      : `BackgroundTasks.of() found no request in this context of type "${type}": call it in the handler, or in an interceptor`,
  );
}

function requestAndType(context: ExecutionContext): [request: object | undefined, type: string] {
  const type = context.getType<string>();
  return [requestOfContext(type, context.getArgs()), type];
}

/** The request and its type, from a request or a GraphQL context. */
function requestAndTypeOf(source: HttpRequest & GraphqlContext): [request: object, type: string] {
  const raw = rawRequest(source);
  // The context of an application may have the response as `res`, as Express's requests do, and is no stream.
  const isRequest = Reflect.has(raw, 'pipe') && isHttpRequest(raw);
  return isRequest ? [raw, 'http'] : [requestOfOperation(source), 'graphql'];
}

function isExecutionContext(source: object): source is ExecutionContext {
  return 'getType' in source && 'getArgs' in source && typeof source.getArgs === 'function';
}

/** The application that handles a request: the one whose server received it, or the only one. */
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

/** The context among the arguments of a resolver: the argument before the info. */
export function graphqlContext(args: readonly unknown[]): GraphqlContext {
  return args[args.findIndex(isResolveInfo) - 1] as GraphqlContext;
}

/**
 * The HTTP request that all resolvers of a query, or of a batch of queries, share; for an operation received through a WebSocket, its
 * context.
 */
export function requestOfOperation(context: GraphqlContext): object {
  const request = context.req && rawRequest(context.req);
  // The request of a handshake belongs to the connection, and not to one of its operations.
  const isHandshake = request !== undefined && 'upgrade' in request && request.upgrade === true;
  return request && isHttpRequest(request) && !isHandshake ? request : context;
}

/** True if a resolver starts a subscription. It returns the events, which end when the subscription does. */
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

/** The object that represents a message of a microservice: its context. A transport creates one for each message, or none at all. */
function contextOfRpc([, context]: readonly unknown[]): object | undefined {
  return objectOrNone(context);
}

/** The context of a message, from the REQUEST that Nest injects. */
export function contextOfHost(request: object): object | undefined {
  return isRpcHost(request) ? objectOrNone(request.getContext()) : undefined;
}

export function isRpcHost(request: object): request is RequestContextHost {
  return 'getContext' in request && typeof request.getContext === 'function' && 'getPattern' in request;
}

function objectOrNone(value: unknown): object | undefined {
  return typeof value === 'object' && value !== null ? value : undefined;
}

/** Represents one message to a gateway. Nest has an object for the connection, but none for the message. */
class GatewayMessage {}

function messageOfGateway(args: readonly unknown[]): object | undefined {
  return args.find((argument): argument is GatewayMessage => argument instanceof GatewayMessage);
}

/** Adds an object for the message to the arguments of a handler, where its parameter decorators find it. */
export function beginGatewayMessage(context: ExecutionContext): object {
  const message = new GatewayMessage();
  const args: unknown[] = context.getArgs();
  // Nest looks for the pattern in the last argument.
  args.splice(-1, 0, message);
  return message;
}

/** The copies of this package in the process, by their folders. */
const COPIES = Symbol.for('nestjs-background-tasks:copies');

export const SEVERAL_COPIES =
  'This process has several copies of nestjs-background-tasks, and each knows only its own decorators and modules. Find them with `npm ls ' +
  'nestjs-background-tasks`, use `npm dedupe` or one version for all packages, and do not both import and require it. They are in';

/** Registers this copy of the package. Called by its decorator and by its module. */
export function registerCopy(): void {
  copies().add(folderOfCopy());
}

/** The folders of all copies, if there are several. */
export function otherCopies(): readonly string[] {
  const folders = [...copies()];
  return folders.length > 1 ? folders : [];
}

function copies(): Set<string> {
  const registered: unknown = Reflect.get(globalThis, COPIES);
  if (registered instanceof Set) return registered;
  const made = new Set<string>();
  Reflect.set(globalThis, COPIES, made);
  return made;
}

/** The folder of this copy. It is parsed from a stack trace, because ES modules and CommonJS expose their own path in different ways. */
function folderOfCopy(): string {
  try {
    return (
      /(?:file:\/\/)?((?:\/|[A-Z]:\\)[^():]*?)[/\\]request[/\\]context\.[jt]s/.exec(String(new Error().stack))?.[1] ?? 'an unknown folder'
    );
  } catch {
    return 'an unknown folder';
  }
}
