// An MCP server of one tool, which tells what it got with the request, and buys a token from every pod of its gate: with
// the handle of the request, and with that of the request before.
const http = require("http");
const dns = require("dns").promises;

let before = null;

async function buy(address, policy, handle) {
    const answer = await fetch(`http://${address}:8082/token/${policy}`, {
        method: "POST",
        headers: { "mcp-auth-handle": handle },
        signal: AbortSignal.timeout(5000),
    });
    return { address, status: answer.status, body: await answer.json() };
}

async function told(headers) {
    const handle = headers["mcp-auth-handle"];
    const found = await dns.lookup(process.env.PEERS, { all: true });
    const addresses = found.map(({ address }) => address).sort();
    const all = handle => Promise.all(addresses.map(address => buy(address, process.env.POLICY, handle)));
    const result = {
        authorization: headers.authorization,
        bought: handle ? await all(handle) : [],
        late: before ? await all(before) : [],
    };
    before = handle;
    return result;
}

http.createServer(async (request, response) => {
    let text = "";
    for await (const chunk of request) text += chunk;
    const { id } = JSON.parse(text);
    const result = await told(request.headers).catch(error => ({ error: String(error) }));
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({ jsonrpc: "2.0", id, result }));
}).listen(3000);
