// Where users of an oidc-provider sign in and give consent, at /interaction/<uid>.

const page = (title, body) => `<!DOCTYPE html><title>${title}</title>${body}`;

const login = (problem) =>
  page(
    'Sign in',
    `<form id="oidc-provider-login" action="" method="post">${problem ? `<p class="error-message">${problem}</p>` : ''}
    <input name="username"><input name="password" type="password"><button>Sign in</button></form>`,
  );

const consent = (scopes) =>
  page(
    'Consent',
    `<div id="oidc-provider-consent"><ul>${scopes.map((scope) => `<li>${scope}</li>`).join('')}</ul>
    <form action="" method="post"><button name="accept" value="yes">Allow</button></form></div>`,
  );

/** What the user is asked for: names of scopes, which hold nothing that HTML would mind (RFC 6749 section 3.3). */
const asked = ({ missingOIDCScope = [], missingResourceScopes = {} }) =>
  [missingOIDCScope, ...Object.values(missingResourceScopes)].flat().filter((scope) => /^[\w:.-]+$/.test(scope));

async function granted(provider, { grantId, session, params, prompt }) {
  const found = grantId && (await provider.Grant.find(grantId));
  const grant = found || new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  const { missingOIDCScope = [], missingResourceScopes = {} } = prompt.details;
  if (missingOIDCScope.length) grant.addOIDCScope(missingOIDCScope.join(' '));
  for (const [resource, scopes] of Object.entries(missingResourceScopes)) grant.addResourceScope(resource, scopes.join(' '));
  return { consent: { grantId: await grant.save() } };
}

/** Serves the pages for these users, each with a password. */
export const signIn = (provider, users) => async (request, response) => {
  const details = await provider.interactionDetails(request, response);
  const { name } = details.prompt;
  const show = (html) => response.writeHead(200, { 'content-type': 'text/html' }).end(html);
  if (request.method !== 'POST') return show(name === 'login' ? login() : consent(asked(details.prompt.details)));
  const form = new URLSearchParams(Buffer.concat(await request.toArray()).toString());
  const finish = (result) => provider.interactionFinished(request, response, result);
  if (name === 'consent') return finish(await granted(provider, details));
  const [username, password] = ['username', 'password'].map((field) => form.get(field));
  if (!Object.hasOwn(users, username) || users[username] !== password) return show(login('Wrong name or password'));
  return finish({ login: { accountId: username } });
};
