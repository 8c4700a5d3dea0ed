import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { forget, onceClosedByClient, streamOf } from './closed-streams.js';

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
  // 'finish' stays out when the client left, and comes twice under Fastify's `inject()`; 'close' comes always, but later.
  if (response.writableFinished || response.destroyed) return once();
  // Not with `once()`, which costs as much again: both come, or one does, and nothing after them.
  response.on('finish', once).on('close', once);
  // Without a socket, it waits behind the responses to earlier requests, and if the connection closes, it does not learn of it.
  // Or, over HTTP/2, its stream has closed already.
  if (!response.socket) onceConnectionCloses(response, once);
  else if (stream) onceClosedByClient(stream, once);
}

/** What the responses that wait on a connection listen for: one listener for all of them, as a client may pipeline many requests. */
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
    // What middleware, or another copy of this package, has put there is called, too.
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

/** Calls the listener when the head of a response is written. What HTTP/2 writes of itself is not seen. */
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
