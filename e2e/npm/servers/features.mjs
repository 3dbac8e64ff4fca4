// The tools, prompts and resources by which the conformance suite judges a server.
import { McpServer, ResourceTemplate, completable, inputRequired } from '@modelcontextprotocol/server';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';

// One red pixel, and a sound of no length.
const IMAGE = {
  type: 'image',
  mimeType: 'image/png',
  data: 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==',
};
const AUDIO = { type: 'audio', mimeType: 'audio/wav', data: 'UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA=' };

const text = (words) => ({ type: 'text', text: words });
const embedded = (uri, mimeType, words) => ({ type: 'resource', resource: { uri, mimeType, text: words } });
const answer = (...content) => ({ content });
const form = (properties, required) => ({ type: 'object', properties, ...(required && { required }) });

function content(server) {
  const fixed = {
    test_simple_text: [text('This is a simple text response for testing.')],
    test_image_content: [IMAGE],
    test_audio_content: [AUDIO],
    test_embedded_resource: [embedded('test://embedded-resource', 'text/plain', 'This is embedded.')],
    test_multiple_content_types: [
      text('Several kinds of content:'),
      IMAGE,
      embedded('test://mixed-content-resource', 'application/json', '{"test":"data","value":123}'),
    ],
  };
  for (const [name, content] of Object.entries(fixed)) {
    server.registerTool(name, { description: 'Always the same answer' }, () => ({ content }));
  }
  server.registerTool('test_error_handling', { description: 'Always fails' }, () => ({
    isError: true,
    content: [text('This tool intentionally returns an error for testing')],
  }));
}

// What comes on the stream before the answer.
function streams(server) {
  const describe = (description) => ({ description, inputSchema: z.object({}) });
  server.registerTool('test_tool_with_logging', describe('Logs while it works'), async (_, { mcpReq }) => {
    for (const data of ['Tool execution started', 'Tool processing data', 'Tool execution completed']) {
      await mcpReq.notify({ method: 'notifications/message', params: { level: 'info', data } });
      await sleep(50);
    }
    return answer(text('Done'));
  });
  server.registerTool('test_tool_with_progress', describe('Tells how far it is'), async (_, { mcpReq }) => {
    const progressToken = mcpReq._meta?.progressToken;
    for (const progress of [0, 50, 100]) {
      const params = { progressToken, progress, total: 100 };
      await mcpReq.notify({ method: 'notifications/progress', params });
      await sleep(50);
    }
    return answer(text('Done'));
  });
  server.registerTool('test_reconnection', describe('Hangs up before it answers'), async (_, { http }) => {
    http?.closeSSE?.();
    await sleep(100);
    return answer(text('The client came back'));
  });
}

// Questions to the client in the middle of a call: on the stream of the call in the one direction, as a POST in the
// other. (On the stream of a GET they would be lost where that is not open yet.)
function questions(server) {
  const one = (name) => ({ description: 'Asks the client', inputSchema: z.object({ [name]: z.string() }) });
  server.registerTool('test_sampling', one('prompt'), async ({ prompt }, { mcpReq }) => {
    const messages = [{ role: 'user', content: text(prompt) }];
    const result = await mcpReq.send({ method: 'sampling/createMessage', params: { messages, maxTokens: 100 } });
    return answer(text(`LLM response: ${result.content.text}`));
  });
  const elicit = async (mcpReq, message, requestedSchema) => {
    const params = { mode: 'form', message, requestedSchema };
    const { action, content } = await mcpReq.send({ method: 'elicitation/create', params });
    return answer(text(`action=${action}, content=${JSON.stringify(content ?? {})}`));
  };
  server.registerTool('test_elicitation', one('message'), ({ message }, { mcpReq }) =>
    elicit(mcpReq, message, form({ username: { type: 'string' }, email: { type: 'string' } }, ['username', 'email'])),
  );
  const none = { description: 'Asks the client', inputSchema: z.object({}) };
  server.registerTool('test_elicitation_sep1034_defaults', none, (_, { mcpReq }) =>
    elicit(mcpReq, 'Please look at the defaults', form({
      name: { type: 'string', default: 'John Doe' },
      age: { type: 'integer', default: 30 },
      score: { type: 'number', default: 95.5 },
      status: { type: 'string', enum: ['active', 'inactive', 'pending'], default: 'active' },
      verified: { type: 'boolean', default: true },
    })),
  );
  const options = [1, 2, 3].map((n) => `option${n}`);
  const titled = [1, 2, 3].map((n) => ({ const: `value${n}`, title: `Option ${n}` }));
  server.registerTool('test_elicitation_sep1330_enums', none, (_, { mcpReq }) =>
    elicit(mcpReq, 'Please choose', form({
      untitledSingle: { type: 'string', enum: options },
      titledSingle: { type: 'string', oneOf: titled },
      legacyEnum: { type: 'string', enum: ['opt1', 'opt2'], enumNames: ['Option 1', 'Option 2'] },
      untitledMulti: { type: 'array', items: { type: 'string', enum: options } },
      titledMulti: { type: 'array', items: { anyOf: titled } },
    })),
  );
}

const NAME = () => inputRequired.elicit({ message: 'What is your name?', requestedSchema: form({ name: { type: 'string' } }, ['name']) });
const CAPITAL = () => inputRequired.createMessage({ messages: [{ role: 'user', content: text('What is the capital of France?') }], maxTokens: 100 });

// The same on the new wire: the answer says what is missing, and the client calls again with it.
function rounds(server) {
  const asks = (name, first, state) => {
    const config = { description: 'Needs an answer of the client', inputSchema: z.object({}) };
    server.registerTool(name, config, (_, { mcpReq }) => {
      const missing = Object.keys(first).some((key) => !mcpReq.inputResponses?.[key]);
      if (missing) {
        const inputRequests = Object.fromEntries(Object.entries(first).map(([key, ask]) => [key, ask()]));
        return inputRequired({ inputRequests, ...(state && { requestState: state }) });
      }
      return answer(text(`state-ok ${JSON.stringify(mcpReq.inputResponses)}`));
    });
  };
  asks('test_input_required_result_elicitation', { user_name: NAME });
  asks('test_streaming_elicitation', { user_name: NAME });
  // Whoever does not say that it has a model is refused by the SDK.
  asks('test_missing_capability', { capital_question: CAPITAL });
  asks('test_input_required_result_sampling', { capital_question: CAPITAL });
  asks('test_input_required_result_list_roots', { client_roots: () => inputRequired.listRoots() });
  asks('test_input_required_result_request_state', { confirm: NAME }, 'a state that the client gives back');
  asks('test_input_required_result_multiple_inputs', { user_name: NAME, greeting: CAPITAL, client_roots: () => inputRequired.listRoots() }, 'several');
}

// What only the new wire has: arguments that are also headers, and changes that listeners hear of.
function news(server, notify) {
  const city = z.string().meta({ 'x-mcp-header': 'City' });
  server.registerTool('test_headers', { description: 'Has a header', inputSchema: z.object({ city }) }, ({ city }) => answer(text(city)));
  const quiet = { description: 'Logs only for those who want it', inputSchema: z.object({}) };
  server.registerTool('test_logging_tool', quiet, async (_, { mcpReq }) => {
    await mcpReq.log('info', 'working');
    return answer(text('Done'));
  });
  const changes = { test_trigger_tool_change: 'toolsChanged', test_trigger_prompt_change: 'promptsChanged' };
  for (const [name, event] of Object.entries(changes)) {
    server.registerTool(name, { description: 'Says that something changed' }, () => {
      notify[event]();
      return answer(text('Said'));
    });
  }
}

function prompts(server) {
  const user = (...content) => ({ messages: content.map((content) => ({ role: 'user', content })) });
  const described = { description: 'A prompt' };
  server.registerPrompt('test_simple_prompt', described, () => user(text('This is a simple prompt for testing.')));
  const word = completable(z.string(), (value) => ['test1', 'test2'].filter((known) => known.startsWith(value)));
  server.registerPrompt(
    'test_prompt_with_arguments',
    { ...described, argsSchema: z.object({ arg1: word, arg2: z.string() }) },
    ({ arg1, arg2 }) => user(text(`Prompt with arguments: arg1='${arg1}', arg2='${arg2}'`)),
  );
  server.registerPrompt(
    'test_prompt_with_embedded_resource',
    { ...described, argsSchema: z.object({ resourceUri: z.string() }) },
    ({ resourceUri }) => user(embedded(resourceUri, 'text/plain', 'Embedded.'), text('Please process it.')),
  );
  server.registerPrompt('test_input_required_result_prompt', described, ({ mcpReq }) => {
    const context = mcpReq.inputResponses?.context;
    return context ? user(text(JSON.stringify(context))) : inputRequired({ inputRequests: { context: NAME() } });
  });
  server.registerPrompt('test_prompt_with_image', described, () => user(IMAGE, text('Please look at it.')));
}

function resources(server) {
  const plain = (name, uri, words) => {
    const read = () => ({ contents: [{ uri, mimeType: 'text/plain', text: words }] });
    server.registerResource(name, uri, { mimeType: 'text/plain' }, read);
  };
  plain('static-text', 'test://static-text', 'This is the content of the static text resource.');
  plain('watched', 'test://watched-resource', 'Watched resource content');
  server.registerResource('static-binary', 'test://static-binary', { mimeType: 'image/png' }, () => ({
    contents: [{ uri: 'test://static-binary', mimeType: 'image/png', blob: IMAGE.data }],
  }));
  const template = new ResourceTemplate('test://template/{id}/data', { list: undefined });
  server.registerResource('template', template, { mimeType: 'application/json' }, (uri, { id }) => ({
    contents: [{ uri: uri.href, mimeType: 'application/json', text: JSON.stringify({ id, templateTest: true, data: `Data for ID: ${id}` }) }],
  }));
  // On the old wire only; the new one has subscriptions/listen, which the SDK answers.
  server.server.setRequestHandler('resources/subscribe', () => ({}));
  server.server.setRequestHandler('resources/unsubscribe', () => ({}));
}

/** A server with all of them, for one session of the old wire or, with `notify`, one request of the new one. */
export function create(notify) {
  const server = new McpServer(
    { name: 'both-wires', version: '1.0.0' },
    {
      capabilities: {
        ...{ logging: {}, completions: {}, resources: { subscribe: true } },
        ...{ tools: { listChanged: true }, prompts: { listChanged: true } },
      },
      cacheHints: Object.fromEntries(
        ['server/discover', 'tools/list', 'prompts/list', 'resources/list', 'resources/templates/list', 'resources/read'].map(
          (method) => [method, { ttlMs: 1000, cacheScope: 'private' }],
        ),
      ),
    },
  );
  for (const add of [content, streams, questions, rounds, prompts, resources]) add(server);
  if (notify) news(server, notify);
  return server;
}
