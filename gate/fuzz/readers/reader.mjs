// Says what a body means to Node's JSON.parse, or with an argument, what targets or a URI mean to its URL. What is asked,
// and the answers, are preceded by their length, as four bytes.

function canonical(value) {
  if (value === null || value === undefined) return "-";
  if (value === true) return "t";
  if (value === false) return "f";
  if (typeof value === "string") return `"${Buffer.from(value, "utf8").toString("hex")}"`;
  if (typeof value === "number") {
    const bytes = Buffer.alloc(8);
    bytes.writeDoubleBE(value === 0 ? 0 : value); // -0 is 0
    return "n" + bytes.toString("hex");
  }
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  const pairs = Object.keys(value).map((key) => [canonical(key), canonical(value[key])]);
  pairs.sort(([one], [other]) => (one < other ? -1 : 1));
  return `{${pairs.map(([key, item]) => `${key}:${item}`).join(",")}}`;
}

// As servers do it: what is inherited is there as well.
function get(value, key) {
  const isObject = value !== null && typeof value === "object" && !Array.isArray(value);
  return isObject ? value[key] : null;
}

function subjects(method, params) {
  switch (method) {
    case "tools/call":
      return [["Tool", get(params, "name")]];
    case "prompts/get":
      return [["Prompt", get(params, "name")]];
    case "resources/read":
    case "resources/subscribe":
    case "resources/unsubscribe":
      return [["Resource", get(params, "uri")]];
    case "completion/complete": {
      const reference = get(params, "ref");
      return get(reference, "type") === "ref/prompt"
        ? [["Prompt", get(reference, "name")]]
        : [["Resource", get(reference, "uri")]];
    }
    case "subscriptions/listen": {
      const uris = get(get(params, "notifications"), "resourceSubscriptions");
      return (uris ?? []).map((uri) => ["Resource", uri]);
    }
    default:
      return [];
  }
}

// Many servers copy what they get, and by that make `__proto__` the prototype of the copy.
function copied(value) {
  if (value === null || typeof value !== "object") return value;
  if (Array.isArray(value)) return value.map(copied);
  const copy = {};
  for (const key of Object.keys(value)) copy[key] = copied(value[key]);
  return copy;
}

function meaning(body) {
  let message;
  try {
    message = JSON.parse(body.toString("utf8"));
  } catch {
    return "!invalid";
  }
  const said = (message) => {
    const [method, params] = [get(message, "method"), get(message, "params")];
    const hasArguments = method === "tools/call" || method === "prompts/get";
    const parts = [method, get(message, "id"), subjects(method, params), hasArguments ? get(params, "arguments") : null];
    return parts.map(canonical).join(" ");
  };
  const [plain, afterCopy] = [said(message), said(copied(message))];
  return plain === afterCopy ? plain : "!copying changes it";
}

const hex = (text) => Buffer.from(text, "utf8").toString("hex");

// The paths of request targets, as servers read them.
function targets(text) {
  const path = (target) => {
    try {
      return hex(new URL(target, "http://mcp.example").pathname);
    } catch {
      return "!invalid";
    }
  };
  return text.toString("utf8").split(" ").map(path).join(" ");
}

// How the URI of a resource is spelled for servers that compare it.
function spellings(text) {
  const uri = text.toString("utf8");
  const spelled = [() => new URL(uri).href, () => decodeURIComponent(new URL(uri).href), () => decodeURIComponent(uri)];
  const all = spelled.flatMap((spell) => {
    try {
      return [hex(spell())];
    } catch {
      return [];
    }
  });
  return all.join(" ") || "!invalid";
}

const say = { targets, uris: spellings }[process.argv[2]] ?? meaning;
let pending = Buffer.alloc(0);
process.stdin.on("data", (chunk) => {
  pending = Buffer.concat([pending, chunk]);
  const answers = [];
  let at = 0;
  while (pending.length - at >= 4) {
    const end = at + 4 + pending.readUInt32BE(at);
    if (pending.length < end) break;
    const answer = Buffer.from(say(pending.subarray(at + 4, end)));
    const head = Buffer.alloc(4);
    head.writeUInt32BE(answer.length);
    answers.push(head, answer);
    at = end;
  }
  pending = pending.subarray(at);
  process.stdout.write(Buffer.concat(answers));
});
