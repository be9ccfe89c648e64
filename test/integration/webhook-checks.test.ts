/** What the gateway checks before it stores a webhook: secrets, signatures, challenges, and bodies as hostile peers send them. */
import { createHmac, randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { type Fleet, serviceSecret, startFleet } from "../support/fleet.ts";
import { githubSigned, type HookReply, sendHook, type SentHook, slackSigned } from "../support/hook-sender.ts";
import { type HttpService, type ServiceRequest, startService } from "../support/http-service.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";

let redis: RedisServer;
let fleet: Fleet;
let service: HttpService;

const secret = "the secret of a source, shared with its provider";

beforeAll(async () => {
  [redis, service] = await Promise.all([startRedis(), startService()]);
  const route = "plain";
  const secrets = ["env:HOOK_SECRET"];
  fleet = await startFleet({
    target: { kind: "standalone", url: redis.url },
    gateways: 2,
    environment: { HOOK_SECRET: secret, VERIFY_TOKEN: "token", PUBLIC_URL: "https://hooks.example" },
    rules: {
      services: { hooks: { url: service.url, secret: serviceSecret } },
      routes: [{ event: route, service: "hooks", path: "/", mode: "enqueue" }],
      sources: {
        github: { verify: "github", secrets, route, key: "body:/repository/id", tenant: "path:1" },
        meta: { verify: "meta", secrets, verifyToken: "env:VERIFY_TOKEN", split: ["/entry", "/messaging"], route },
        open: { verify: "none", route, key: "query:key" },
        form: { verify: "none", route, key: "body:From", id: "body:Sid" },
        slack: { verify: "slack", secrets, route, answer: 200 },
        sms: { verify: "twilio", secrets, route, key: "body:/From" },
        keyless: { verify: "github", secrets: ["env:NOT_SET"], route },
        rotating: { verify: "github", secrets: [...secrets, "env:NOT_SET"], route },
      },
    },
  });
});
afterAll(async () => {
  await fleet.stop();
  await Promise.all([redis.stop(), service.stop()]);
});

let markers = 0;
function newMarker(): string {
  return `marker-${++markers}`;
}

function arrived(marker: string): ServiceRequest[] {
  return service.requests.filter(({ body }) => body.includes(marker));
}

async function send(path: string, sent: SentHook = {}): Promise<HookReply> {
  return sendHook(fleet.urls[0] ?? "", path, sent);
}

async function sendSigned(body: string): Promise<HookReply> {
  return send("github/acme", { body, headers: githubSigned(secret, body) });
}

describe("secrets", () => {
  test("SRC-12: a source without its secret answers 503, and the log and /readyz say what to set", async () => {
    const body = "{}";
    const missing = await send("keyless", { body, headers: githubSigned(secret, body) });
    expect([missing.status, Number(missing.headers.get("retry-after"))]).toEqual([503, 30]);
    expect((await send("rotating", { body, headers: githubSigned(secret, body) })).status).toBe(202);
    expect((await send("rotating", { body, headers: githubSigned("the other", body) })).status).toBe(503);
    // Others look at what arrives while nothing may.
    await eventually(() => service.requests.length === 1);
    expect(fleet.log()).toContain("sources.keyless: the environment variable NOT_SET is not set");
    const ready = await fetch(`http://127.0.0.1:${fleet.gateways[0]?.adminDoor.port}/readyz`);
    expect(await ready.json()).toMatchObject({ checks: { sources: "degraded" } });
  });

  test("SRC-12: no log, no metric and no call of the API shows a secret", async () => {
    const rules = await fleet.api("GET", "/v1/rules");
    expect(rules.text).toContain("env:HOOK_SECRET");
    await send("github/acme", { body: "{}", headers: { "x-hub-signature-256": "sha256=00" } });
    const metrics = await (await fetch(`http://127.0.0.1:${fleet.gateways[0]?.adminDoor.port}/metrics`)).text();
    for (const text of [rules.text, metrics, fleet.log()]) expect(text).not.toContain(secret);
  });
});

describe("verification", () => {
  test("VER-1: a forged, a changed and an unsigned webhook get bad_signature, and nothing is stored", async () => {
    const marker = newMarker();
    const body = JSON.stringify({ repository: { id: 1 }, marker });
    for (const headers of [{}, githubSigned("wrong", body), githubSigned(secret, `${body} `)]) {
      const answer = await send("github/acme", { body, headers });
      expect([answer.status, answer.code]).toEqual([401, "bad_signature"]);
    }
    const last = newMarker();
    await sendSigned(JSON.stringify({ repository: { id: 1 }, marker: last }));
    await eventually(() => arrived(last).length === 1);
    expect(arrived(marker)).toEqual([]);
  });

  test("VER-2: an expired signature gets bad_signature", async () => {
    const body = '{"type":"event"}';
    const headers = slackSigned(secret, body, Math.floor(Date.now() / 1_000) - 400);
    const answer = await send("slack", { body, headers });
    expect([answer.status, answer.code]).toEqual([401, "bad_signature"]);
  });

  test("VER-3: Slack's url_verification is answered where it is signed", async () => {
    const body = '{"type":"url_verification","challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"}';
    const answer = await send("slack", { body, headers: slackSigned(secret, body) });
    expect([answer.status, answer.text]).toEqual([200, "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"]);
    expect((await send("slack", { body })).status).toBe(401);
  });

  test("VER-3: Meta's challenge is answered on GET; a wrong token gets 403", async () => {
    const query = "hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=";
    const answer = await send(`meta?${query}token`, { method: "GET" });
    expect([answer.status, answer.text]).toEqual([200, "1158201444"]);
    expect(answer.headers.get("content-type")).toMatch(/^text\/plain/);
    const wrong = await send(`meta?${query}wrong`, { method: "GET" });
    expect([wrong.status, wrong.code]).toEqual([403, "forbidden"]);
    expect((await send("github", { method: "GET" })).code).toBe("not_found");
    expect((await send("nobody", { method: "GET" })).code).toBe("unknown_source");
  });

  test("VER-4: Twilio's signature counts for PUBLIC_URL, and for the address that the request was sent to", async () => {
    const marker = newMarker();
    const body = `From=${marker}&Body=Hi`;
    const signed = (url: string): Record<string, string> => ({
      "content-type": "application/x-www-form-urlencoded",
      "x-twilio-signature": createHmac("sha1", secret).update(`${url}BodyHiFrom${marker}`).digest("base64"),
    });
    for (const base of ["https://hooks.example", fleet.urls[0]]) {
      const headers = signed(`${base}/hooks/sms/a%20b?x=1`);
      expect((await send("sms/a%20b?x=1", { body, headers })).status).toBe(202);
    }
    expect((await send("sms", { body, headers: signed("https://other.example/hooks/sms") })).status).toBe(401);
    await eventually(() => arrived(marker).length === 2);
  });
});

describe("bad input", () => {
  test("EDGE-4: an unknown source gets 404, whatever is sent", async () => {
    for (const path of ["nobody", "nobody/a/b", "__proto__", "constructor", "a%2Fb", "x".repeat(900)]) {
      const answer = await send(path, { body: "{}" });
      expect([answer.status, answer.code]).toEqual([404, "unknown_source"]);
    }
    expect((await send("", { body: "{}" })).status).toBe(404);
  });

  test("EDGE-3: compressed, empty, broken and deep bodies are refused, and nothing is stored", async () => {
    const before = service.requests.length;
    const type = { "content-type": "application/json" };
    const bad: SentHook[] = [
      { body: "{}", headers: { "content-encoding": "gzip" } },
      { body: "" },
      {},
      { body: "{" },
      { body: Buffer.from([0x22, 0xff, 0x22]), headers: type },
      { body: "[".repeat(200) + "]".repeat(200) },
      { body: "\ufeff{}" },
    ];
    for (const sent of bad) {
      const answer = await send("open?key=k", sent);
      expect([answer.status, answer.code]).toEqual([400, "invalid_request"]);
    }
    expect((await send("open", { body: "{}" })).code).toBe("invalid_request");
    for (const path of ["open?key=%ff", "open/%ff?key=k"]) {
      const answer = await send(path, { body: "{}" });
      expect([answer.code, answer.text]).toEqual([
        "invalid_request",
        expect.stringContaining("the URL is not percent-encoded UTF-8"),
      ]);
    }
    expect(service.requests.length).toBe(before);
  });

  test("EDGE-3: a body whose encoding is named identity, or is empty, is not compressed", async () => {
    for (const encoding of ["identity", ""]) {
      const answer = await send("open?key=k", { body: "{}", headers: { "content-encoding": encoding } });
      expect(answer.status, answer.text).toBe(202);
    }
  });

  test("EDGE-5: values with line breaks and other bytes reach the service as one header each", async () => {
    const marker = newMarker();
    const key = `${marker}\r\nce-fence: 9\u0000ü`;
    await send(`open?key=${encodeURIComponent(key)}`, { body: "{}" });
    await eventually(() =>
      service.requests.some(({ headers }) => headers["ce-partitionkey"]?.toString().startsWith(marker)),
    );
    const request = service.requests.find(({ headers }) => headers["ce-partitionkey"]?.toString().startsWith(marker));
    expect(decodeURIComponent(String(request?.headers["ce-partitionkey"]))).toBe(key);
    expect(request?.headers["ce-fence"]).toMatch(/^\d{20}$/);
  });

  test("EDGE-6: a thousand requests of random bytes get documented answers, and nothing is stored", async () => {
    const paths = ["github/acme", "meta", "slack", "sms", "form", "nobody"];
    const types = ["application/json", "application/x-www-form-urlencoded", "text/plain", "x"];
    const before = service.requests.length;
    const pick = <Item>(items: readonly Item[]): Item => items[Math.floor(Math.random() * items.length)] as Item;
    const sendRandom = async (): Promise<void> => {
      const headers = {
        "content-type": pick(types),
        "x-hub-signature-256": `sha256=${randomBytes(32).toString("hex")}`,
        "x-slack-signature": `v0=${randomBytes(32).toString("hex")}`,
        "x-slack-request-timestamp": String(Math.floor(Date.now() / 1_000)),
        "x-twilio-signature": randomBytes(20).toString("base64"),
      };
      const body = Buffer.concat([Buffer.from([0xff]), randomBytes(Math.floor(Math.random() * 2_000))]);
      const answer = await send(pick(paths), { body, headers });
      expect([400, 401, 404]).toContain(answer.status);
    };
    for (let round = 0; round < 20; round++) await Promise.all(Array.from({ length: 50 }, sendRandom));
    expect(service.requests.length).toBe(before);
  });
});
