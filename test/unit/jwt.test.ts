/** Keys of an issuer that is slow, away or rotates them. */
import { once } from "node:events";
import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { gzipSync } from "node:zlib";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { createLogger } from "../../shared/runtime/logging.ts";
import { createVerifier, type Verifier } from "../../shared/tokens/jwt.ts";
import { eventually } from "../support/eventually.ts";
import { answerJson } from "../support/http-service.ts";

const { privateKey, publicKey } = await generateKeyPair("ES256", { extractable: true });
const jwk = { ...(await exportJWK(publicKey)), kid: "known", alg: "ES256" };

let server: Server;
let answer: (response: ServerResponse) => void;
let fetches: number;
let verify: Verifier;
let log: string[];

beforeEach(async () => {
  vi.useFakeTimers({ toFake: ["performance"] });
  fetches = 0;
  answer = (response) => answerJson(response, { keys: [jwk] });
  server = createServer((_request, response) => {
    fetches++;
    answer(response);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  log = [];
  const logger = createLogger({ name: "test", level: "warn", destination: { write: (line) => void log.push(line) } });
  const { port } = server.address() as AddressInfo;
  verify = createVerifier({ jwksUrl: `http://127.0.0.1:${port}/keys?key=hidden`, logger });
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
  await eventually(() => held.length === 1);
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

/** An answer with the known key, of that many bytes. */
function answerOf(bytes: number): string {
  const text = JSON.stringify({ keys: [jwk], rest: "" });
  return text.replace('"rest":""', `"rest":"${"x".repeat(bytes - text.length)}"`);
}

test("KEYS-3: an answer of 256 KiB is read, and no more than that of a larger one", async () => {
  const maxBytes = 256 * 1024;
  answer = (response) => response.end(answerOf(maxBytes));
  expect(await kindsOf(["known"])).toEqual(new Set(["valid"]));
  vi.advanceTimersByTime(601_000);
  // Small on the wire. The known keys stay in force.
  answer = (response) => {
    response.setHeader("content-encoding", "gzip");
    response.end(gzipSync(answerOf(maxBytes + 1)));
  };
  expect(await kindsOf(["known", ...unknown])).toEqual(new Set(["valid", "unavailable"]));
  vi.advanceTimersByTime(10_000);
  const closed = Promise.withResolvers<void>();
  answer = (response) => {
    const write = (): void => {
      while (!response.destroyed && response.write("x".repeat(16_384)));
    };
    response.on("drain", write).on("close", closed.resolve);
    write();
  };
  expect(await kindsOf(unknown)).toEqual(new Set(["unavailable"]));
  await closed.promise;
});

test("KEYS-3: a hundred keys are read, one more is refused", async () => {
  const keys = Array.from({ length: 99 }, (_, n) => ({ ...jwk, kid: `other ${n}` }));
  answer = (response) => answerJson(response, { keys: [...keys, jwk] });
  expect(await kindsOf(["known"])).toEqual(new Set(["valid"]));
  vi.advanceTimersByTime(10_000);
  answer = (response) => answerJson(response, { keys: [...keys, jwk, jwk] });
  expect(await kindsOf(unknown)).toEqual(new Set(["unavailable"]));
  expect(log.join("")).toContain("it has 101 keys");
});

test("KEYS-3: the log has the reason of a failure once, and nothing of the query", async () => {
  answer = fail;
  for (let n = 0; n < 3; n++) {
    expect(await kindsOf(["known"])).toEqual(new Set(["unavailable"]));
    vi.advanceTimersByTime(2_000);
  }
  answer = (response) => response.end("<html>");
  expect(await kindsOf(["known"])).toEqual(new Set(["unavailable"]));
  expect(log.map((line) => (JSON.parse(line) as { reason: string }).reason)).toEqual([
    expect.stringMatching(/^http.*\/keys cannot be fetched: answered 500$/),
    expect.stringMatching(/^http.*\/keys cannot be fetched: the body is not JSON: /),
  ]);
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
