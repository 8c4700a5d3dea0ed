import http from 'node:http';
import http2 from 'node:http2';
import net from 'node:net';
import { parentPort, workerData } from 'node:worker_threads';

// The thread behind client.ts: one request at a time, and word of how far it is.

const over = new Int32Array(workerData);
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });

/** Ends the connection of the request in flight, as a client that loses interest. */
let leave = () => {};

/** Tells of the first bytes, and of the end. The flag is for a server that blocks its event loop. */
function answer() {
  let body = '';
  let ended = false;
  return {
    add(chunk) {
      if (body === '') parentPort.postMessage({ type: 'begun' });
      body += chunk;
    },
    end(status, complete) {
      if (ended) return;
      ended = true;
      Atomics.store(over, 0, 1);
      Atomics.notify(over, 0);
      parentPort.postMessage({ type: 'over', answer: { status, body, complete } });
    },
  };
}

const requests = {
  http1({ url, method, headers }) {
    const { add, end } = answer();
    const request = http.request(url, { method, headers, agent }, (response) => {
      response.setEncoding('utf8').on('data', add);
      response.on('end', () => end(response.statusCode, true));
      response.on('close', () => end(response.statusCode, response.complete)).on('error', () => {});
    });
    request.on('error', () => end(undefined, false)).end();
    leave = () => request.destroy();
  },

  http2({ url, method, headers }) {
    const { add, end } = answer();
    const { origin, pathname } = new URL(url);
    const session = http2.connect(origin);
    const stream = session.request({ ':method': method, ':path': pathname, ...headers });
    let status;
    stream.on('response', (head) => (status = head[':status']));
    stream.setEncoding('utf8').on('data', add);
    stream.on('end', () => end(status, stream.rstCode === http2.constants.NGHTTP2_NO_ERROR));
    stream.on('error', () => end(status, false)).on('close', () => session.close());
    stream.end();
    leave = () => stream.close(http2.constants.NGHTTP2_CANCEL);
  },

  /** Writes the text, and takes whatever comes until the server ends the connection. */
  raw({ url, text }) {
    const { add, end } = answer();
    const { hostname, port } = new URL(url);
    const socket = net.connect({ host: hostname, port: Number(port) }, () => socket.write(text));
    socket.setEncoding('utf8').on('data', add);
    socket.on('end', () => end(undefined, true)).on('error', () => {});
    socket.on('close', () => end(undefined, false));
    leave = () => socket.destroy();
  },
};

parentPort.on('message', (message) => {
  if (message.type === 'leave') leave();
  else requests[message.type](message);
});
