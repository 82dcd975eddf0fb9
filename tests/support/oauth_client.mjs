// An MCP client on the TypeScript SDK that is given a URL and no token: it finds the authorization server by the
// metadata, registers itself, has itself authorized with PKCE, and asks.
//
//   node oauth_client.mjs FOLDER URL MODE PROMPT
//
// FOLDER is where `@modelcontextprotocol/client` is installed, MODE is `auto` or `legacy`: which era is asked for. On stdout comes, as JSON, what the server said.
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [folder, url, mode, prompt] = process.argv.slice(2);
const found = createRequire(pathToFileURL(`${folder}/`)).resolve('@modelcontextprotocol/client');
const { Client, StreamableHTTPClientTransport, UnauthorizedError } = await import(pathToFileURL(found));

const kept = {};
let redirected;
const provider = {
  redirectUrl: 'http://127.0.0.1:1/callback',
  clientMetadata: {
    client_name: 'a test', redirect_uris: ['http://127.0.0.1:1/callback'],
    grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'],
    token_endpoint_auth_method: 'none',
  },
  clientInformation: () => kept.client,
  saveClientInformation: (client) => { kept.client = client; },
  tokens: () => kept.tokens,
  saveTokens: (tokens) => { kept.tokens = tokens; },
  saveCodeVerifier: (verifier) => { kept.verifier = verifier; },
  codeVerifier: () => kept.verifier,
  saveDiscoveryState: (state) => { kept.discovery = state; },
  discoveryState: () => kept.discovery,
  redirectToAuthorization: async (authorize) => {  // the browser of a user who agrees at once
    redirected = new URL((await fetch(authorize, { redirect: 'manual' })).headers.get('location'));
  },
};

async function connect() {
  const transport = new StreamableHTTPClientTransport(new URL(url), { authProvider: provider });
  const client = new Client({ name: 'a test', version: '0' }, { versionNegotiation: { mode } });
  try {
    await client.connect(transport);
  } catch (error) {
    if (!(error instanceof UnauthorizedError)) throw error;
    await transport.finishAuth(redirected.searchParams);
    return connect();
  }
  return client;
}

const client = await connect();
const { tools } = await client.listTools();
const messages = [{ role: 'user', content: prompt }];
const answer = await client.callTool({ name: 'complete', arguments: { messages } });
console.log(JSON.stringify({
  authorized: redirected !== undefined,
  era: client.getNegotiatedProtocolVersion(),
  tools: tools.map((tool) => tool.name),
  answer: answer.structuredContent,
}));
await client.close();
