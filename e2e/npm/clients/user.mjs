// What an MCP client of the TypeScript SDK needs for its user to sign in: a place to come back to, and a memory.
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';

/** One line of what happened, for whoever runs the client. */
export const say = (what) => console.log(JSON.stringify(what));

/**
 * An OAuthClientProvider whose user opens what it prints. Its client was registered before, is known by the address of a
 * document, or, with neither id nor document, registers itself.
 */
export class User {
  #state;
  #came;
  #listener;
  #stored = {};

  static async at(clientId, callback, document) {
    const user = new User();
    user.clientId = clientId;
    user.clientMetadataUrl = document;
    user.redirectUrl = callback;
    user.#listener = createServer((request, response) => user.#comesBack(request, response));
    user.#listener.listen(Number(new URL(callback).port), '127.0.0.1');
    await once(user.#listener, 'listening');
    return user;
  }

  #comesBack(request, response) {
    const answer = new URL(request.url, this.redirectUrl).searchParams;
    const right = this.#came !== undefined && answer.get('state') === this.#state;
    response.writeHead(right ? 200 : 400).end();
    if (right) this.#came.resolve(answer);
  }

  /** The parameters that the user came back with. */
  async answer() {
    const answer = await this.#came.promise;
    this.#came = undefined;
    return answer;
  }

  leave() {
    this.#listener.close();
    this.#listener.closeAllConnections();
  }

  get clientMetadata() {
    return { client_name: 'Story', redirect_uris: [this.redirectUrl], token_endpoint_auth_method: 'none' };
  }

  state() {
    return (this.#state = randomUUID());
  }

  clientInformation() {
    return this.#stored.client ?? (this.clientId && { client_id: this.clientId });
  }

  saveClientInformation(client) {
    const known = this.clientId ?? this.clientMetadataUrl;
    if (known && client.client_id !== known) throw new Error('the SDK registered another client');
    this.#stored.client = client;
  }

  tokens() {
    return this.#stored.tokens;
  }

  saveTokens(tokens) {
    this.#stored.tokens = tokens;
    say({ granted: tokens.scope });
  }

  saveCodeVerifier(verifier) {
    this.#stored.verifier = verifier;
  }

  codeVerifier() {
    return this.#stored.verifier;
  }

  redirectToAuthorization(url) {
    this.#came = Promise.withResolvers();
    say({ open: url.href });
  }
}
