// An OpenID Connect provider with device authorization: panva's oidc-provider with people, groups and clients.
//
// It runs with packages of its own (tests/support/device_provider.py): `node start.mjs CONFIGURATION.json`. Its own
// pages for development let in whoever is among the people, with any password.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const wanted = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const required = createRequire(`${wanted.packages}/`);
const { default: Provider } = await import(pathToFileURL(required.resolve('oidc-provider')));

const client = (id) => ({
  client_id: id,
  token_endpoint_auth_method: 'none',
  application_type: 'native',
  grant_types: ['urn:ietf:params:oauth:grant-type:device_code'],
  response_types: [],
  redirect_uris: [],
  require_auth_time: wanted.auth_time,
});

const provider = new Provider(`http://127.0.0.1:${wanted.port}`, {
  clients: wanted.clients.map(client),
  features: { deviceFlow: { enabled: wanted.device } },
  scopes: ['openid', 'profile', 'groups'],
  claims: { openid: ['sub'], profile: ['preferred_username'], groups: ['groups'] },
  conformIdTokenClaims: wanted.bare, // true: the ID token has the subject only, and the user info the rest
  ttl: { DeviceCode: wanted.code_seconds, IdToken: 600, AccessToken: 600, Grant: 600, Session: 600, Interaction: 600 },
  async findAccount(_context, id) {
    const groups = wanted.people[id];
    if (groups === undefined) return undefined;
    return { accountId: id, claims: async () => ({ sub: `of ${id}`, preferred_username: id, groups }) };
  },
});
provider.listen(wanted.port, '127.0.0.1');
