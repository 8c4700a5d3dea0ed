import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { clearInterval, setImmediate, setInterval } from 'node:timers';

/** Calls the listener once, when the last byte is sent or the connection is gone. */
export function onceOver(response: ServerResponse, listener: () => void): void {
  const stream = streamOf(response);
  let over = false;
  const once = (): void => {
    if (over) return;
    over = true;
    if (stream) forget(once);
    listener();
  };
  // Over HTTP/2, a response finishes only when its stream has closed, and a client may leave its upload open.
  stream?.once('finish', () => onceSent(stream, once));
  // 'finish' is not emitted if the client left, and is emitted twice under Fastify's `inject()`. 'close' is always emitted, but later.
  if (response.writableFinished || response.destroyed) return once();
  // `once()` would double the cost and is not needed: nothing is emitted after these two.
  response.on('finish', once).on('close', once);
  // A response without a socket waits for the responses to earlier requests, and is not notified when the connection closes.
  // Over HTTP/2, it means that the stream has closed already.
  if (!response.socket) onceConnectionCloses(response, once);
  else if (stream) onceClosedByClient(stream, once);
}

/** All responses that wait on a connection share one listener, as a client may pipeline many requests. */
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
  // The response gets its socket when its turn has come.
  response.once('socket', () => listeners.delete(listener));
}

/**
 * Returns a function that observes whether the server cuts a response off, for example when a file or a generator fails half-way. A client
 * that leaves does not count.
 */
export function observeCutOffs(cutOff: (request: IncomingMessage) => void): (response: ServerResponse) => void {
  // All responses share one function. With one for each, V8 retains finished requests over several minor garbage collections.
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
    // When a connection closes, Node 24 destroys the responses that wait on it.
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
 * Calls the listener with the status of the answer to an upgrade request. WebSocket servers write it directly to the connection and bypass
 * the response, which lasts as long as the connection.
 *
 * @see https://github.com/websockets/ws/blob/8.23.0/lib/websocket-server.js `completeUpgrade`
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

/** Calls the listener when the head of a response is written. It does not see a head that HTTP/2 writes implicitly. */
export function onceHeadWritten(response: ServerResponse, listener: () => void): void {
  const writeHead = response.writeHead.bind(response) as (...args: unknown[]) => ServerResponse;
  response.writeHead = (...args: unknown[]) => {
    writeHead(...args);
    listener();
    return response;
  };
}

/** Calls the listener when code ends a response whose client has left. There is no event for that. */
export function onceAnswered(response: ServerResponse, listener: () => void): void {
  const end = response.end.bind(response) as (...args: unknown[]) => ServerResponse;
  response.end = (...args: unknown[]) => {
    end(...args);
    listener();
    return response;
  };
}

/** A stream of HTTP/2. `_handle` is undocumented. Without it, no data counts as waiting on the connection. */
interface Stream {
  once(event: 'finish', listener: () => void): unknown;
  readonly closed?: boolean;
  readonly writableFinished?: boolean;
  readonly destroyed?: boolean;
  readonly state?: { readonly state?: number; readonly localClose?: number };
  readonly session?: { readonly destroyed: boolean; readonly socket?: { readonly _handle?: { readonly writeQueueSize?: number } | null } };
}

/** The time between two checks of the streams. */
const INTERVAL_MS = 250;

/** `NGHTTP2_STREAM_STATE_IDLE`: the state of a stream that the protocol has forgotten. */
const UNKNOWN = 1;

/**
 * The listeners that wait for the end of a stream. A stream may have several: for the lists of nested applications, and for the shutdown.
 */
const watchedStreams = new Map<() => void, Stream>();
let checkInterval: NodeJS.Timeout | undefined;

/** The stream of a response over HTTP/2. */
function streamOf(response: ServerResponse): Stream | undefined {
  return (response as { readonly stream?: Stream }).stream;
}

/**
 * Calls the listener when the client has closed the stream without an error before the whole response was sent, as `close()` of Node's own
 * client does. Node emits neither 'finish' nor 'close' then, even when the connection is gone. So streams are checked at intervals, until
 * `forget`.
 */
function onceClosedByClient(stream: Stream, listener: () => void): void {
  watchedStreams.set(listener, stream);
  checkInterval ??= setInterval(checkStreams, INTERVAL_MS).unref();
}

function forget(listener: () => void): void {
  if (!watchedStreams.delete(listener) || watchedStreams.size > 0) return;
  clearInterval(checkInterval);
  checkInterval = undefined;
}

function checkStreams(): void {
  for (const [listener, stream] of watchedStreams) if (isCutShort(stream) || isSent(stream)) listener();
}

/** The number of turns of the event loop in which a finished stream is checked. Its last bytes are mostly sent by then. */
const TURNS = 10;

/**
 * Calls the listener when all data of a finished stream is sent: in one of the next turns of the event loop, or at the next check of the
 * streams.
 */
function onceSent(stream: Stream, listener: () => void, turns = TURNS): void {
  if (isSent(stream)) listener();
  else if (turns > 0) setImmediate(() => onceSent(stream, listener, turns - 1));
}

/** True if the end of a stream was sent, and no data waits on the connection. */
function isSent({ writableFinished, state, session }: Stream): boolean {
  return writableFinished === true && state?.localClose === 1 && !session?.socket?._handle?.writeQueueSize;
}

/** True if no more data of a stream will be sent. If some still waits on the connection, 'finish' is yet to be emitted. */
function isCutShort(stream: Stream): boolean {
  const { session } = stream;
  // A destroyed stream has yet to emit 'close'.
  if (!stream.closed || stream.destroyed || !session || session.destroyed) return false;
  return stream.state?.state === UNKNOWN && !session.socket?._handle?.writeQueueSize;
}
