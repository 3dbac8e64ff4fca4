// An authorization server that is not Keycloak: oidc-provider, with registration (RFC 7591), its management (RFC 7592)
// and resource indicators (RFC 8707). What it can do is in OPTIONS; how it errs can be changed while it runs, by a PUT of
// JSON to /control/behaviour: what is wrong with it then is put into answers that oidc-provider itself has made. What it
// holds is at /control/clients.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import Provider from 'oidc-provider';
import { signIn } from './sign-in.mjs';

const { ISSUER, PORT, HOST, CERTIFICATE, KEY } = process.env;
/**
 * initialAccessToken: what registration needs, if anything. manages: whether clients can be managed. rotates: whether a
 * change replaces the registration access token. resources: resources with their scopes, separated by spaces.
 * users: who may sign in, by name, with a password.
 */
const options = JSON.parse(process.env.OPTIONS);
/**
 * secretLifetime: after so many seconds secrets end. clientId, registrationClientUri, redirectUris, extra: what
 * answers say instead. huge: they hold a mebibyte too much. forgets: metadata that it does not keep.
 */
let behaviour = {};

const configuration = {
  clients: [],
  clockTolerance: 0,
  findAccount: (_, id) => (Object.hasOwn(options.users, id) ? { accountId: id, claims: () => ({ sub: id }) } : undefined),
  interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
  scopes: ['openid', 'offline_access', ...Object.values(options.resources).flatMap((scope) => scope.split(' '))],
  extraClientMetadata: { properties: ['software_id', 'software_version'] },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    registration: {
      enabled: true,
      initialAccessToken: options.initialAccessToken ?? false,
      issueRegistrationAccessToken: options.manages,
    },
    registrationManagement: { enabled: options.manages, rotateRegistrationAccessToken: options.rotates },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_, resource) => ({
        scope: options.resources[resource] ?? '',
        audience: resource,
        accessTokenFormat: 'jwt',
        accessTokenTTL: 300,
      }),
    },
  },
};

const provider = new Provider(ISSUER, configuration);
provider.on('server_error', (_, error) => console.error(error));

/** What a client registers with, before oidc-provider sees it. */
function forget(body) {
  for (const name of behaviour.forgets ?? []) delete body[name];
}

/** Ends the secret of a client, in what is stored and in the answer. */
async function limit(body) {
  if (!behaviour.secretLifetime || !body.client_secret) return;
  body.client_secret_expires_at = Math.floor(Date.now() / 1000) + behaviour.secretLifetime;
  const { adapter } = provider.Client;
  await adapter.upsert(body.client_id, { ...(await adapter.find(body.client_id)), client_secret_expires_at: body.client_secret_expires_at });
}

function lie(body) {
  const { clientId, registrationClientUri, redirectUris, huge } = behaviour;
  if (clientId) body.client_id = clientId;
  if (registrationClientUri) body.registration_client_uri = registrationClientUri;
  if (redirectUris) body.redirect_uris = redirectUris;
  if (huge) body.client_name = 'x'.repeat(1024 * 1024);
}

provider.use(async (context, next) => {
  const registers = context.path.startsWith('/reg');
  if (registers && ['POST', 'PUT'].includes(context.method) && behaviour.forgets) {
    const chunks = await context.req.toArray();
    const body = JSON.parse(Buffer.concat(chunks));
    forget(body);
    context.request.body = body;
  }
  await next();
  if (!registers || !context.body?.client_id) return;
  if (context.method === 'POST') await limit(context.body);
  lie(context.body);
});

const serve = provider.callback();
const interact = signIn(provider, options.users);

/** The ids of the clients that registered and were not removed. */
const registered = new Set();
provider.on('registration_create.success', (_, client) => registered.add(client.clientId));
provider.on('registration_delete.success', (_, client) => registered.delete(client.clientId));

/** What an administrator of this server does, and what is asked of nobody who must prove anything: it is for tests. */
async function control(request, response) {
  const { adapter } = provider.Client;
  const [, , what, id] = request.url.split('/');
  const sent = Buffer.concat(await request.toArray());
  const body = sent.length ? JSON.parse(sent) : {};
  const found = id && (await adapter.find(id));
  if (what === 'behaviour') behaviour = body;
  else if (id && !found) return response.writeHead(404).end();
  else if (request.method === 'PATCH') await adapter.upsert(id, { ...found, ...body });
  else if (request.method === 'DELETE') {
    await adapter.destroy(id);
    registered.delete(id);
  }
  const clients = await Promise.all([...registered].map((client) => adapter.find(client)));
  return response.end(JSON.stringify(clients));
}

/** What is not left to oidc-provider. */
const OWN = { '/control/': control, '/interaction/': interact };

createServer({ cert: readFileSync(CERTIFICATE), key: readFileSync(KEY) }, (request, response) => {
  const own = Object.keys(OWN).find((beginning) => request.url.startsWith(beginning));
  if (!own) return serve(request, response);
  return OWN[own](request, response).catch((error) => {
    console.error(error);
    response.destroy();
  });
}).listen(Number(PORT), HOST, () => console.log(`listening on ${PORT}`));
