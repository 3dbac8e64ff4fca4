// A server that speaks both wires of MCP on one path, made of the TypeScript SDK: sessions and GET streams up to
// 2025-11-25, stateless from 2026-07-28. It has no authorization of its own and does not look at Origin.
import { createMcpHandler, isLegacyRequest } from '@modelcontextprotocol/server';
import { NodeStreamableHTTPServerTransport, toNodeHandler, toWebRequest } from '@modelcontextprotocol/node';
import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { create } from './features.mjs';

const handler = createMcpHandler(() => create(handler.notify), { legacy: 'reject' });
const modern = toNodeHandler(handler);
const sessions = new Map();

/** Keeps what was sent, so that a client that lost its stream can go on where it was. */
class Events {
  #sent = [];

  async storeEvent(stream, message) {
    return String(this.#sent.push({ stream, message }));
  }

  async replayEventsAfter(last, { send }) {
    const stream = this.#sent[Number(last) - 1]?.stream;
    for (const [index, event] of this.#sent.entries()) {
      // The first event of a stream only primes it.
      if (index >= Number(last) && event.stream === stream && event.message.jsonrpc) {
        await send(String(index + 1), event.message);
      }
    }
    return stream;
  }
}

async function session(request) {
  const id = request.headers['mcp-session-id'];
  if (id) return sessions.get(id);
  const transport = new NodeStreamableHTTPServerTransport({
    sessionIdGenerator: randomUUID,
    eventStore: new Events(),
    retryInterval: 500,
    onsessioninitialized: (id) => sessions.set(id, transport),
    onsessionclosed: (id) => sessions.delete(id),
  });
  await create().connect(transport);
  return transport;
}

async function serve(request, response) {
  if (new URL(request.url, 'http://localhost').pathname !== '/mcp') return response.writeHead(404).end();
  const chunks = await request.toArray();
  let body;
  try {
    body = chunks.length ? JSON.parse(Buffer.concat(chunks)) : undefined;
  } catch {
    return response.writeHead(400).end();
  }
  if (!(await isLegacyRequest(await toWebRequest(request, body), body))) return modern(request, response, body);
  const transport = await session(request);
  if (!transport) return response.writeHead(404).end();
  return transport.handleRequest(request, response, body);
}

createServer((request, response) => {
  serve(request, response).catch((error) => {
    console.error(error);
    response.destroy();
  });
}).listen(Number(process.env.PORT), '127.0.0.1', () => console.log(`listening on ${process.env.PORT}`));
