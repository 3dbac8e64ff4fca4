// A client of the TypeScript SDK, which is told nothing but where the server is and who it is itself: by the id of a
// client, or the address of a document; with neither it registers itself.
//
//   node sdk.mjs '{"sdk": 2, "url": "http://…/mcp", "clientId": "…", "callback": "http://127.0.0.1:…/callback",
//                  "pin": "2026-07-28", "steps": [["list"], ["call", "echo", {"message": "hello"}]]}'
//
// Prints one JSON object a line: {"open": URL for the user}, {"granted": scopes}, {"step": …, "result" or "error": …}.
import { User, say } from './user.mjs';

const SDKS = {
  async 1() {
    const [{ Client }, { StreamableHTTPClientTransport }, { UnauthorizedError }] = await Promise.all([
      import('@modelcontextprotocol/sdk/client/index.js'),
      import('@modelcontextprotocol/sdk/client/streamableHttp.js'),
      import('@modelcontextprotocol/sdk/client/auth.js'),
    ]);
    return { Client, StreamableHTTPClientTransport, UnauthorizedError, finish: (answer) => answer.get('code') };
  },
  async 2() {
    return { ...(await import('@modelcontextprotocol/client')), finish: (answer) => answer };
  },
};

const plan = JSON.parse(process.argv[2]);
const { Client, StreamableHTTPClientTransport, UnauthorizedError, finish } = await SDKS[plan.sdk]();
const user = await User.at(plan.clientId, plan.callback, plan.document);
const options = plan.pin ? { versionNegotiation: { mode: { pin: plan.pin } } } : {};

/** Does what may need the user, once more after the user was there. */
async function withUser(transport, action, again = action) {
  try {
    return await action();
  } catch (error) {
    if (!(error instanceof UnauthorizedError)) throw error;
    await transport.finishAuth(finish(await user.answer()));
    return again();
  }
}

async function connect() {
  const transport = () => new StreamableHTTPClientTransport(new URL(plan.url), { authProvider: user });
  const client = () => new Client({ name: 'story', version: '1' }, options);
  const first = { client: client(), transport: transport() };
  return withUser(
    first.transport,
    async () => (await first.client.connect(first.transport), first),
    async () => {
      const second = { client: client(), transport: transport() };
      await second.client.connect(second.transport);
      return second;
    },
  );
}

const ACTIONS = {
  list: async (client) => (await client.listTools()).tools.map((tool) => tool.name),
  call: async (client, name, args) => (await client.callTool({ name, arguments: args })).content.map((one) => one.text).join(''),
};

try {
  const { client, transport } = await connect();
  for (const [action, ...args] of plan.steps) {
    const step = [action, ...args.slice(0, 1)].join(' ');
    try {
      say({ step, result: await withUser(transport, () => ACTIONS[action](client, ...args)) });
    } catch (error) {
      say({ step, error: String(error.message) });
    }
  }
  await transport.terminateSession();
  await client.close();
} finally {
  user.leave();
}
