/** Keys of an issuer that is slow, away or rotates them. */
import { once } from "node:events";
import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { createVerifier, type Verifier } from "../../shared/tokens/jwt.ts";
import { answerJson } from "../support/http-service.ts";

const { privateKey, publicKey } = await generateKeyPair("ES256", { extractable: true });
const jwk = { ...(await exportJWK(publicKey)), kid: "known", alg: "ES256" };

let server: Server;
let answer: (response: ServerResponse) => void;
let fetches: number;
let verify: Verifier;

beforeEach(async () => {
  vi.useFakeTimers({ toFake: ["performance"] });
  fetches = 0;
  answer = (response) => answerJson(response, { keys: [jwk] });
  server = createServer((_request, response) => {
    fetches++;
    answer(response);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  verify = createVerifier({ jwksUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}/keys` });
});
afterEach(() => {
  vi.useRealTimers();
  server.closeAllConnections();
  server.close();
});

async function tokenOf(kid: string): Promise<string> {
  return new SignJWT({ sub: "ada", exp: Math.floor(Date.now() / 1000) + 3_600 })
    .setProtectedHeader({ alg: "ES256", kid })
    .sign(privateKey);
}

async function kindsOf(kids: readonly string[]): Promise<Set<string>> {
  const kinds = await Promise.all(kids.map(async (kid) => (await verify(await tokenOf(kid))).kind));
  return new Set(kinds);
}

const unknown = Array.from({ length: 100 }, (_, i) => `unknown ${i}`);
const fail = (response: ServerResponse): void => answerJson(response, {}, 500);

test("KEYS-1: a hundred unknown key ids cost one fetch while the keys cannot be fetched", async () => {
  answer = fail;
  expect(await kindsOf(unknown)).toEqual(new Set(["unavailable"]));
  for (const kid of unknown) expect((await verify(await tokenOf(kid))).kind).toBe("unavailable");
  expect(fetches).toBe(1);
  vi.advanceTimersByTime(2_000);
  answer = (response) => answerJson(response, { keys: [jwk] });
  expect(await kindsOf(["known"])).toEqual(new Set(["valid"]));
  expect(fetches).toBe(2);
});

test("KEYS-1: known keys are used while a fetch is under way or failed", async () => {
  expect(await kindsOf(["known"])).toEqual(new Set(["valid"]));
  vi.advanceTimersByTime(10_000);
  answer = fail;
  expect(await kindsOf(["known", ...unknown])).toEqual(new Set(["valid", "unavailable"]));
  expect(await kindsOf(["known"])).toEqual(new Set(["valid"]));
  vi.advanceTimersByTime(10_000);
  const held: ServerResponse[] = [];
  answer = (response) => held.push(response);
  const waiting = kindsOf(unknown);
  await vi.waitUntil(() => held.length === 1);
  expect(await kindsOf(["known"])).toEqual(new Set(["valid"]));
  for (const response of held) answerJson(response, { keys: [jwk] });
  expect(await waiting).toEqual(new Set(["invalid"]));
  expect(fetches).toBe(3);
});

test("KEYS-1: outdated keys are used for up to an hour while fetching fails", async () => {
  expect(await kindsOf(["known"])).toEqual(new Set(["valid"]));
  answer = fail;
  vi.advanceTimersByTime(601_000);
  expect(await kindsOf(["known", "known"])).toEqual(new Set(["valid"]));
  expect(fetches).toBe(2);
  vi.advanceTimersByTime(3_000_000);
  expect(await kindsOf(["known"])).toEqual(new Set(["unavailable"]));
});

test("CON-12: a key that the issuer removed is unknown after ten minutes", async () => {
  expect(await kindsOf(["known"])).toEqual(new Set(["valid"]));
  answer = (response) => answerJson(response, { keys: [] });
  vi.advanceTimersByTime(601_000);
  expect(await kindsOf(["known"])).toEqual(new Set(["invalid"]));
});

test.for<[string, (response: ServerResponse) => void]>([
  ["no JSON", (response) => response.end("<html>")],
  ["no keys", (response) => answerJson(response, { keys: 5 })],
  ["a redirect", (response) => response.writeHead(302, { location: "/elsewhere" }).end()],
  ["a connection that is cut", (response) => response.destroy()],
])("KEYS-1: %s in place of the keys counts as keys that cannot be fetched", async ([, given]) => {
  answer = given;
  expect(await kindsOf(["known", ...unknown])).toEqual(new Set(["unavailable"]));
  expect(fetches).toBe(1);
});

/** Published keys of one algorithm, and a token signed by each. */
async function keysOf(count: number, header: { kid?: string }): Promise<{ jwk: object; token: string }[]> {
  return Promise.all(
    Array.from({ length: count }, async () => {
      const pair = await generateKeyPair("ES256", { extractable: true });
      const token = await new SignJWT({ sub: "ada", exp: Math.floor(Date.now() / 1000) + 3_600 })
        .setProtectedHeader({ alg: "ES256", ...header })
        .sign(pair.privateKey);
      return { jwk: { ...(await exportJWK(pair.publicKey)), ...header }, token };
    }),
  );
}

async function kindsOfTokens(keys: readonly { token: string }[]): Promise<string[]> {
  return Promise.all(keys.map(async ({ token }) => (await verify(token)).kind));
}

test.each([
  ["without a key id", {}],
  ["of several keys with one id", { kid: "current" }],
])("KEYS-2: a token %s is checked with each key that fits", async (_name, header) => {
  const [foreign, ...keys] = await keysOf(4, header);
  const { publicKey: other } = await generateKeyPair("RS256", { extractable: true });
  const published = [{ ...(await exportJWK(other)), ...header }, jwk, ...keys.map((key) => key.jwk)];
  answer = (response) => answerJson(response, { keys: published });
  expect(await kindsOfTokens(keys)).toEqual(["valid", "valid", "valid"]);
  expect(foreign && (await verify(foreign.token))).toEqual({
    kind: "invalid",
    reason: "signature verification failed",
  });
  const expired = await new SignJWT({ sub: "ada", exp: 1 }).setProtectedHeader({ alg: "ES256" }).sign(privateKey);
  expect((await verify(expired)).kind).toBe("expired");
  expect(fetches).toBe(1);
});

test("KEYS-2: at most ten keys are tried", async () => {
  const keys = await keysOf(11, {});
  answer = (response) => answerJson(response, { keys: keys.map((key) => key.jwk) });
  expect(await kindsOfTokens(keys)).toEqual([...Array.from({ length: 10 }, () => "valid"), "invalid"]);
});

test("CON-12: keys replaced under the same id are fetched again, at most every 10 s", async () => {
  const [before, after] = await keysOf(2, { kid: "current" });
  if (!before || !after) throw new Error("there are two");
  answer = (response) => answerJson(response, { keys: [before.jwk] });
  expect(await kindsOfTokens([before, after, after])).toEqual(["valid", "invalid", "invalid"]);
  expect(fetches).toBe(1);
  answer = (response) => answerJson(response, { keys: [before.jwk, after.jwk] });
  vi.advanceTimersByTime(10_000);
  expect(await kindsOfTokens([before, after, after])).toEqual(["valid", "valid", "valid"]);
  expect(fetches).toBe(2);
  // While keys cannot be fetched, a forged token gets the same result as before.
  answer = fail;
  vi.advanceTimersByTime(10_000);
  const [forged] = await keysOf(1, { kid: "current" });
  expect(await kindsOfTokens([after, forged ?? after])).toEqual(["valid", "invalid"]);
  expect(fetches).toBe(3);
});
