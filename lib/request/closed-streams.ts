import type { ServerResponse } from 'node:http';
import { clearInterval, setInterval } from 'node:timers';

/** A stream of HTTP/2. Node has a `state` of it, and of the connection what waits to be sent, `_handle.writeQueueSize`: undocumented. */
interface Stream {
  readonly closed: boolean;
  readonly destroyed: boolean;
  readonly state: { readonly state?: number };
  readonly session?: { readonly destroyed: boolean; readonly socket: { readonly _handle?: { readonly writeQueueSize?: number } | null } };
}

/** Milliseconds after which the streams are looked at again. */
const INTERVAL = 250;

/** `NGHTTP2_STREAM_STATE_IDLE`: the state of a stream that the protocol knows no more. */
const UNKNOWN = 1;

const open = new Map<Stream, () => void>();
let looking: NodeJS.Timeout | undefined;

/** The stream of a response over HTTP/2. */
export function streamOf(response: ServerResponse): Stream | undefined {
  return (response as { readonly stream?: Stream }).stream;
}

/**
 * Calls the listener when the client has closed the stream of its response without an error, as `close()` of Node's own client does, before all of
 * it was sent. Node tells nobody, not even when the connection is gone: no 'finish', no 'close'. So streams are looked at, until `forget`.
 */
export function onceClosedByClient(stream: Stream, listener: () => void): void {
  open.set(stream, listener);
  looking ??= setInterval(look, INTERVAL).unref();
}

export function forget(stream: Stream): void {
  if (!open.delete(stream) || open.size > 0) return;
  clearInterval(looking);
  looking = undefined;
}

function look(): void {
  for (const [stream, listener] of open) if (isCutShort(stream)) listener();
}

/** Whether nothing of a stream will be sent any more. What has been sent of others may still wait on the connection. */
function isCutShort({ closed, destroyed, state, session }: Stream): boolean {
  if (!closed || destroyed || state.state !== UNKNOWN) return destroyed;
  return !session || session.destroyed || !session.socket._handle?.writeQueueSize;
}
