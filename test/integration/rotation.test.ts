/** The steps of docs/rotation.md, with both ends of each secret at every step. */
import { jwtVerify } from "jose";
import { Webhook } from "standardwebhooks";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type Fleet, jwtSecret, serviceSecret, startFleet, tokens } from "../support/fleet.ts";
import { eventually } from "../support/eventually.ts";
import { metricsOf } from "../support/gateway-metrics.ts";
import { type HttpService, startService } from "../support/http-service.ts";
import { closeClients, connectClient, refusedConnect, userToken } from "../support/stock-client.ts";

const oldJwtSecret = "the present secret of the test for HS256";
const newJwtSecret = "the next secret of the test for HS256 as well";
const newServiceSecret = `whsec_${Buffer.from("the next secret of that service!").toString("base64")}`;

let service: HttpService;
const fleets: Fleet[] = [];

beforeEach(async () => {
  service = await startService();
});
afterEach(async () => {
  closeClients();
  for (const fleet of fleets.splice(0)) await fleet.stop();
  await service.stop();
});

async function begin(environment: Record<string, string>, rules?: object): Promise<Fleet> {
  const fleet = await startFleet({ environment, ...(rules && { rules }) });
  fleets.push(fleet);
  return fleet;
}

test("ROT-1: a token is valid that any secret of AUTH_JWT_SECRET signed, and no other", async () => {
  const [oldToken, newToken] = [await userToken({}, oldJwtSecret), await userToken({}, newJwtSecret)];
  for (const secrets of [`${oldJwtSecret},${newJwtSecret}`, `${newJwtSecret} , ${oldJwtSecret}`]) {
    const both = (await begin({ AUTH_JWT_SECRET: secrets })).urls[0] ?? "";
    for (const token of [oldToken, newToken]) await connectClient(both, {}, { token });
    const expired = await userToken({ exp: Math.floor(Date.now() / 1000) - 3_600 }, newJwtSecret);
    expect((await refusedConnect(both, { token: expired })).code).toBe("token_expired");
  }
  const after = (await begin({ AUTH_JWT_SECRET: newJwtSecret })).urls[0] ?? "";
  await connectClient(after, {}, { token: newToken });
  expect((await refusedConnect(after, { token: oldToken })).code).toBe("unauthenticated");
  // Neither of its parts could be a secret.
  expect(jwtSecret).toContain(", ");
  const withComma = (await begin({ AUTH_JWT_SECRET: jwtSecret })).urls[0] ?? "";
  await connectClient(withComma);
});

test("ROT-2: a service that tries both of its secrets accepts every request meanwhile", async () => {
  const rulesWith = (secrets: object): object => ({
    services: { documents: { url: service.url, ...secrets } },
    routes: [{ event: "ask", service: "documents", path: "/ask", mode: "call" }],
  });
  const fleet = await begin({ NEW_SECRET: newServiceSecret }, rulesWith({ secret: "env:SERVICE_SECRET" }));
  const client = await connectClient(fleet.urls[0] ?? "");
  const steps = [
    { rules: { secret: "env:SERVICE_SECRET" }, accepts: [serviceSecret, newServiceSecret], signs: serviceSecret },
    {
      rules: { secrets: ["env:NEW_SECRET", "env:SERVICE_SECRET"] },
      accepts: [serviceSecret, newServiceSecret],
      signs: newServiceSecret,
    },
    {
      rules: { secrets: ["env:NEW_SECRET", "env:SERVICE_SECRET"] },
      accepts: [newServiceSecret],
      signs: newServiceSecret,
    },
    { rules: { secret: "env:NEW_SECRET" }, accepts: [newServiceSecret], signs: newServiceSecret },
  ];
  for (const { rules, accepts, signs } of steps) {
    const { version } = (await fleet.api("PUT", "/v1/rules", rulesWith(rules))).body;
    await eventually(async () => (await metricsOf(fleet.gateways, "rules_version"))[0] === version);
    expect((await client.request("ask", { n: 1 })).ok).toBe(true);
    const { body, headers } = service.requests.at(-1) ?? { body: "", headers: {} };
    expect(accepts.some((secret) => isSigned(secret, body, headers as Record<string, string>))).toBe(true);
    const identity = String(headers["authorization"]).replace("Bearer ", "");
    await jwtVerify(identity, new TextEncoder().encode(signs), { audience: "documents" });
    expect(accepts).toContain(signs);
  }
});

function isSigned(secret: string, body: string, headers: Record<string, string>): boolean {
  try {
    new Webhook(secret).verify(body, headers);
    return true;
  } catch {
    return false;
  }
}

test("ROT-3: the old and the new relay token reach services, and sessions resume across", async () => {
  const [oldToken, newToken] = ["the relay token before the rotation", "the relay token after the rotation."].map(
    (text) => text.replaceAll(" ", "-"),
  ) as [string, string];
  const relay = (token: string): object => ({ name: "gateway", token, scopes: ["relay"] });
  const PRIVATE_API_TOKENS = JSON.stringify([
    relay(oldToken),
    relay(newToken),
    { name: "service", token: tokens.service, scopes: ["rules"] },
  ]);
  const rules = {
    services: { documents: { url: service.url, secret: serviceSecret } },
    routes: [{ event: "ask", service: "documents", path: "/ask", mode: "call" }],
  };
  const before = await begin({ PRIVATE_API_TOKENS, PRIVATE_API_TOKEN: oldToken }, rules);
  const client = await connectClient(before.urls[0] ?? "");
  expect((await client.request("ask", {})).ok).toBe(true);
  const RESUME_SECRET = `${oldToken},another secret that is long enough`;
  const after = await begin({ PRIVATE_API_TOKENS, PRIVATE_API_TOKEN: newToken, RESUME_SECRET }, rules);
  // Only the resume token: a node that could not open it would refuse.
  const moved = await connectClient(after.urls[0] ?? "", {}, { token: undefined, resume: client.welcome.resumeToken });
  expect((await moved.request("ask", {})).ok).toBe(true);
});

test("ROT-4: two API tokens of one name are valid at a time", async () => {
  const entry = (token: string): object => ({ name: "reader", token, scopes: ["read"] });
  const [oldToken, newToken] = ["old-token-of-the-reader", "new-token-of-the-reader"] as const;
  const PRIVATE_API_TOKENS = JSON.stringify([
    entry(oldToken),
    entry(newToken),
    { name: "gateway", token: tokens.relay, scopes: ["relay"] },
  ]);
  const fleet = await begin({ PRIVATE_API_TOKENS });
  for (const token of [oldToken, newToken]) {
    expect((await fleet.api("GET", "/v1/nodes", undefined, { token })).status).toBe(200);
  }
  expect((await fleet.api("GET", "/v1/nodes", undefined, { token: "no-token-of-the-reader" })).status).toBe(401);
});
