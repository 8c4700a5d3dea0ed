import type { ServerResponse } from 'node:http';
import { clearInterval, setInterval } from 'node:timers';

/** A stream of HTTP/2. `_handle` is undocumented: where it is not, nothing counts as waiting on the connection. */
interface Stream {
  readonly closed?: boolean;
  readonly destroyed?: boolean;
  readonly state?: { readonly state?: number };
  readonly session?: { readonly destroyed: boolean; readonly socket?: { readonly _handle?: { readonly writeQueueSize?: number } | null } };
}

/** Milliseconds after which the streams are looked at again. */
const INTERVAL = 250;

/** `NGHTTP2_STREAM_STATE_IDLE`: the state of a stream that the protocol knows no more. */
const UNKNOWN = 1;

/** What waits for the end of which stream: of one, its list, the lists of applications mounted in one another, and the shutdown. */
const waiting = new Map<() => void, Stream>();
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
  waiting.set(listener, stream);
  looking ??= setInterval(look, INTERVAL).unref();
}

export function forget(listener: () => void): void {
  if (!waiting.delete(listener) || waiting.size > 0) return;
  clearInterval(looking);
  looking = undefined;
}

function look(): void {
  for (const [listener, stream] of waiting) if (isCutShort(stream)) listener();
}

/** Whether nothing of a stream will be sent any more. What it has sent may still wait on the connection: then its 'finish' is to come. */
function isCutShort(stream: Stream): boolean {
  const { session } = stream;
  // Destroyed, it has a 'close' to come.
  if (!stream.closed || stream.destroyed || !session || session.destroyed) return false;
  return stream.state?.state === UNKNOWN && !session.socket?._handle?.writeQueueSize;
}
