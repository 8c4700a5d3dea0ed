import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { clearInterval, setImmediate, setInterval } from 'node:timers';

/** Calls the listener once, when the last byte is out or the connection is gone. */
export function onceOver(response: ServerResponse, listener: () => void): void {
  const stream = streamOf(response);
  let over = false;
  const once = (): void => {
    if (over) return;
    over = true;
    if (stream) forget(once);
    listener();
  };
  // Over HTTP/2, a response is finished only when its stream has closed, and a client may leave its upload open.
  stream?.once('finish', () => onceSent(stream, once));
  // 'finish' stays out when the client left, and comes twice under Fastify's `inject()`; 'close' comes always, but later.
  if (response.writableFinished || response.destroyed) return once();
  // Not with `once()`, which costs as much again: both come, or one does, and nothing after them.
  response.on('finish', once).on('close', once);
  // Without a socket, it waits behind the responses to earlier requests, and if the connection closes, it does not learn of it.
  // Or, over HTTP/2, its stream has closed already.
  if (!response.socket) onceConnectionCloses(response, once);
  else if (stream) onceClosedByClient(stream, once);
}

/** The responses that wait on a connection share one listener, as a client may pipeline many requests. */
const waiting = new WeakMap<Socket, Set<() => void>>();

function onceConnectionCloses(response: ServerResponse, listener: () => void): void {
  const { socket } = response.req;
  if (socket.destroyed) return listener();
  let listeners = waiting.get(socket);
  if (!listeners) {
    const all = new Set<() => void>();
    socket.once('close', () => all.forEach((call) => call()));
    waiting.set(socket, all);
    listeners = all;
  }
  listeners.add(listener);
  // Its turn has come.
  response.once('socket', () => listeners.delete(listener));
}

/**
 * Returns what has responses tell of their requests when the server cuts them off: a file, or a generator, that failed half-way. A client that
 * leaves does not do it.
 */
export function observeCutOffs(cutOff: (request: IncomingMessage) => void): (response: ServerResponse) => void {
  // One for all responses: with another one for each, V8 keeps finished requests through several collections of young garbage.
  const shared = destroyTelling(cutOff);
  return (response) => {
    // Middleware, or another copy of this package, may have replaced it.
    const isReplaced = Object.hasOwn(response, 'destroy') && response.destroy !== shared;
    response.destroy = isReplaced ? destroyTelling(cutOff, response.destroy.bind(response)) : shared;
  };
}

function destroyTelling(
  cutOff: (request: IncomingMessage) => void,
  replaced?: (error?: Error) => ServerResponse,
): ServerResponse['destroy'] {
  return function destroy(this: ServerResponse, error) {
    // When a connection has closed, Node 24 destroys the responses that waited on it.
    if (!this.req.socket.destroyed) cutOff(this.req);
    if (replaced) return replaced(error);
    const prototype: ServerResponse = Object.getPrototypeOf(this);
    return prototype.destroy.call(this, error) as ServerResponse;
  };
}

/** True for a response over HTTP/2. */
export function isHttp2(response: ServerResponse): boolean {
  return streamOf(response) !== undefined;
}

/** True for the response to a request that asked for an upgrade, such as the handshake of WebSocket. */
export function isUpgrade({ req }: ServerResponse): boolean {
  return 'upgrade' in req && req.upgrade === true;
}

/**
 * Calls the listener with the status of the first thing that is written to the connection of a request that asked for an upgrade: WebSocket servers
 * write the answer to the handshake themselves, past the response, which lasts as long as the connection.
 *
 * @see https://github.com/websockets/ws/blob/master/lib/websocket-server.js `completeUpgrade`
 */
export function onceHandshakeAnswered(socket: Socket, listener: (status: number) => void): void {
  const write = socket.write.bind(socket) as (...args: unknown[]) => boolean;
  socket.write = (...args: unknown[]) => {
    Reflect.deleteProperty(socket, 'write');
    const isWritten = write(...args);
    const [, status] = /^HTTP\/1\.1 (\d{3})/.exec(Buffer.isBuffer(args[0]) ? args[0].toString('latin1', 0, 12) : String(args[0])) ?? [];
    if (status !== undefined) listener(Number(status));
    return isWritten;
  };
}

/** Calls the listener when the head of a response is written. A head that HTTP/2 writes by itself is not seen. */
export function onceHeadWritten(response: ServerResponse, listener: () => void): void {
  const writeHead = response.writeHead.bind(response) as (...args: unknown[]) => ServerResponse;
  response.writeHead = (...args: unknown[]) => {
    writeHead(...args);
    listener();
    return response;
  };
}

/** Calls the listener when a response whose client has left is ended all the same: there is no event for that any more. */
export function onceAnswered(response: ServerResponse, listener: () => void): void {
  const end = response.end.bind(response) as (...args: unknown[]) => ServerResponse;
  response.end = (...args: unknown[]) => {
    end(...args);
    listener();
    return response;
  };
}

/** A stream of HTTP/2. `_handle` is undocumented: without it, nothing counts as waiting on the connection. */
interface Stream {
  once(event: 'finish', listener: () => void): unknown;
  readonly closed?: boolean;
  readonly writableFinished?: boolean;
  readonly destroyed?: boolean;
  readonly state?: { readonly state?: number; readonly localClose?: number };
  readonly session?: { readonly destroyed: boolean; readonly socket?: { readonly _handle?: { readonly writeQueueSize?: number } | null } };
}

/** The time between two looks at the streams. */
const INTERVAL_MS = 250;

/** `NGHTTP2_STREAM_STATE_IDLE`: the state of a stream that the protocol knows no more. */
const UNKNOWN = 1;

/** The listeners that wait for the end of a stream. One stream may have several: the lists of applications mounted in one another, and the shutdown. */
const watchedStreams = new Map<() => void, Stream>();
let looking: NodeJS.Timeout | undefined;

/** The stream of a response over HTTP/2. */
function streamOf(response: ServerResponse): Stream | undefined {
  return (response as { readonly stream?: Stream }).stream;
}

/**
 * Calls the listener when the client has closed the stream of its response without an error, as `close()` of Node's own client does, before all of
 * it was sent. Node tells nobody, not even when the connection is gone: no 'finish', no 'close'. So streams are looked at, until `forget`.
 */
function onceClosedByClient(stream: Stream, listener: () => void): void {
  watchedStreams.set(listener, stream);
  looking ??= setInterval(look, INTERVAL_MS).unref();
}

function forget(listener: () => void): void {
  if (!watchedStreams.delete(listener) || watchedStreams.size > 0) return;
  clearInterval(looking);
  looking = undefined;
}

function look(): void {
  for (const [listener, stream] of watchedStreams) if (isCutShort(stream) || isSent(stream)) listener();
}

/** How often a stream that has finished is looked at in the next turns, in which its last bytes mostly go out. */
const TURNS = 10;

/** Calls the listener when all of a finished stream is on the network: in a turn of the event loop soon, or when the streams are looked at. */
function onceSent(stream: Stream, listener: () => void, turns = TURNS): void {
  if (isSent(stream)) listener();
  else if (turns > 0) setImmediate(() => onceSent(stream, listener, turns - 1));
}

/** True if the end of a stream was sent, and nothing of it waits on the connection. */
function isSent({ writableFinished, state, session }: Stream): boolean {
  return writableFinished === true && state?.localClose === 1 && !session?.socket?._handle?.writeQueueSize;
}

/** True if nothing more of a stream will be sent. If some of it still waits on the connection, its 'finish' is to come. */
function isCutShort(stream: Stream): boolean {
  const { session } = stream;
  // A destroyed stream has a 'close' to come.
  if (!stream.closed || stream.destroyed || !session || session.destroyed) return false;
  return stream.state?.state === UNKNOWN && !session.socket?._handle?.writeQueueSize;
}
