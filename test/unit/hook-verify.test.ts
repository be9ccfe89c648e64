/** Signatures of webhooks, against what the providers publish and their own libraries. */
import { createHmac } from "node:crypto";
import { sign as signAsGithub } from "@octokit/webhooks-methods";
import { Webhook } from "standardwebhooks";
import { describe, expect, test } from "vitest";
import { metaChallenge } from "../../gateway/hooks/verify/meta.ts";
import { schemeOf } from "../../gateway/hooks/verify/scheme-of.ts";
import { slackChallenge } from "../../gateway/hooks/verify/slack.ts";
import type { HmacRule, SchemeName } from "../../shared/rules/sources.ts";

interface Sent {
  headers?: Record<string, string>;
  body?: string;
  url?: string;
  /** Unix seconds of the gateway's clock. */
  now?: number;
}

/** @returns why it is refused; undefined: it is genuine. */
function check(verify: SchemeName, secrets: readonly string[], sent: Sent, hmac?: HmacRule): string | undefined {
  const scheme = schemeOf({ verify, route: "event", ...(hmac && { hmac }) });
  const { headers = {}, body = "", url = "https://hooks.test/hooks/s", now = 1_700_000_000 } = sent;
  const keys = secrets.flatMap((secret) => scheme.keyOf(secret) ?? []);
  return scheme.refusal({ headers, body: Buffer.from(body), urls: () => [url], nowSeconds: now }, keys);
}

const now = 1_700_000_000;
const secret = "a secret that both sides know";
const body = '{"text":"größer","n":1.50}';
const hexOf = (key: string, text: string): string => createHmac("sha256", key).update(text).digest("hex");

/** A valid webhook of each provider, signed at `at`; the providers without a time in their signature ignore it. */
const signers: Readonly<Record<Exclude<SchemeName, "none">, (key: string, at: number) => Promise<Sent> | Sent>> = {
  "standard-webhooks": (key, at) => {
    const base64 = Buffer.from(key).toString("base64");
    const signature = new Webhook(base64).sign("msg_1", new Date(at * 1_000), body);
    return {
      body,
      headers: { "webhook-id": "msg_1", "webhook-timestamp": String(at), "webhook-signature": signature },
    };
  },
  github: async (key) => ({ body, headers: { "x-hub-signature-256": await signAsGithub(key, body) } }),
  meta: async (key) => ({ body, headers: { "x-hub-signature-256": await signAsGithub(key, body) } }),
  stripe: (key, at) => ({
    body,
    headers: { "stripe-signature": `t=${at},v0=00,v1=${hexOf(key, `${at}.${body}`)}` },
  }),
  slack: (key, at) => ({
    body,
    headers: { "x-slack-request-timestamp": String(at), "x-slack-signature": `v0=${hexOf(key, `v0:${at}:${body}`)}` },
  }),
  shopify: (key) => ({
    body,
    headers: { "x-shopify-hmac-sha256": Buffer.from(hexOf(key, body), "hex").toString("base64") },
  }),
  twilio: (key) => {
    const url = "https://hooks.test/hooks/sms?a=1";
    const signature = createHmac("sha1", key).update(`${url}Body`).update("Hello! 👋From+1").digest("base64");
    const headers = { "x-twilio-signature": signature, "content-type": "application/x-www-form-urlencoded" };
    return { url, headers, body: "From=%2B1&Body=Hello%21+%F0%9F%91%8B" };
  },
  hmac: (key, at) => ({ body, headers: { "x-sig": hexOf(key, `${at}.${body}`), "x-ts": String(at) } }),
};
const hmacRule: HmacRule = { header: "X-Sig", signed: "{header:X-Ts}.{body}", timestamp: "header:X-Ts" };
const timed = ["standard-webhooks", "stripe", "slack", "hmac"] as const;

/** As the environment holds it. */
function written(verify: SchemeName, key: string): string {
  return verify === "standard-webhooks" ? `whsec_${Buffer.from(key).toString("base64")}` : key;
}

function checkSigned(verify: SchemeName, secrets: readonly string[], sent: Sent): string | undefined {
  const keys = secrets.map((key) => written(verify, key));
  return check(verify, keys, { now, ...sent }, verify === "hmac" ? hmacRule : undefined);
}

describe("published vectors", () => {
  test("VER-1: GitHub's example", () => {
    const signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    const sent = { body: "Hello, World!", headers: { "x-hub-signature-256": signature } };
    expect(check("github", ["It's a Secret to Everybody"], sent)).toBeUndefined();
    expect(check("meta", ["It's a Secret to Everybody"], sent)).toBeUndefined();
  });

  test("VER-1: Slack's example", () => {
    const sent = {
      now: 1_531_420_618,
      headers: {
        "x-slack-request-timestamp": "1531420618",
        "x-slack-signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
      },
      body: "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c",
    };
    expect(check("slack", ["8f742231b10e8888abcd99yyyzzz85a5"], sent)).toBeUndefined();
  });

  test("VER-1: the example of Standard Webhooks", () => {
    const sent = {
      now: 1_614_265_330,
      headers: {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,bad= v2,Zm9v v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
      },
      body: '{"test": 2432232314}',
    };
    expect(check("standard-webhooks", ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"], sent)).toBeUndefined();
  });

  test("VER-1: a header that stripe 23.1.0 generates (webhooks.generateTestHeaderString)", () => {
    const signature = "t=1614265330,v1=af4ead0627a34a8cca29808e8de9ada8e41a92e6237c63cef6eacf51d36cca34";
    const body = '{\n  "id": "evt_test_webhook",\n  "object": "event"\n}';
    const sent = { now: 1_614_265_330, body, headers: { "stripe-signature": signature } };
    expect(check("stripe", ["whsec_test_secret"], sent)).toBeUndefined();
  });

  test("VER-4: the examples in Twilio's library, a form and a body whose digest is in the URL", () => {
    const form = {
      url: "https://mycompany.com/myapp.php?foo=1&bar=2",
      headers: {
        "x-twilio-signature": "RSOYDt4T1cUTdK1PDd93/VVr8B8=",
        "content-type": "application/x-www-form-urlencoded; charset=UTF-8",
      },
      body: "To=%2B18005551212&From=%2B14158675309&Digits=1234&CallSid=CA1234567890ABCDE&Caller=%2B14158675309",
    };
    expect(check("twilio", ["12345"], form)).toBeUndefined();
    const json = {
      url: `${form.url}&bodySHA256=0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620`,
      headers: { "x-twilio-signature": "a9nBmqA0ju/hNViExpshrM61xv4=", "content-type": "application/json" },
      body: '{"property": "value", "boolean": true}',
    };
    expect(check("twilio", ["12345"], json)).toBeUndefined();
    expect(check("twilio", ["12345"], { ...json, body: '{"property": "other"}' })).toMatch(/bodySHA256/);
  });

  test.each(["hex", "base64", "base64url"] as const)("VER-5: the HMAC of RFC 4231, case 2, in %s", (encoding) => {
    const digest = Buffer.from("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843", "hex");
    const sent = { body: "what do ya want for nothing?", headers: { sig: digest.toString(encoding) } };
    expect(check("hmac", ["Jefe"], sent, { header: "Sig", encoding })).toBeUndefined();
    const shopify = { ...sent, headers: { "x-shopify-hmac-sha256": digest.toString("base64") } };
    expect(check("shopify", ["Jefe"], shopify)).toBeUndefined();
  });

  test("VER-5: the HMAC-SHA-512 of RFC 4231, case 2, behind a label and beside another signature", () => {
    const hex =
      "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737";
    const sent = { body: "what do ya want for nothing?", headers: { sig: `sha512=00ff, sha512=${hex}` } };
    expect(check("hmac", ["Jefe"], sent, { header: "sig", algorithm: "sha512" })).toBeUndefined();
  });
});

describe.each(Object.entries(signers))("%s", (name, sign) => {
  const verify = name as SchemeName;

  test("VER-1: a genuine webhook passes, with any of several secrets", async () => {
    const sent = await sign(secret, now);
    expect(checkSigned(verify, [secret], sent)).toBeUndefined();
    expect(checkSigned(verify, ["another secret", secret], sent)).toBeUndefined();
    expect(checkSigned(verify, ["another secret"], sent)).toMatch(/no signature matches/);
    expect(checkSigned(verify, [], sent)).toBeDefined();
  });

  test("VER-1: a changed body, a changed signature and a missing header are refused", async () => {
    const sent = await sign(secret, now);
    expect(checkSigned(verify, [secret], { ...sent, body: `${sent.body} ` })).toBeDefined();
    expect(checkSigned(verify, [secret], { ...sent, body: "" })).toBeDefined();
    for (const header of Object.keys(sent.headers ?? {}).filter((name) => name !== "content-type")) {
      const { [header]: value = "", ...others } = sent.headers ?? {};
      expect(checkSigned(verify, [secret], { ...sent, headers: others })).toBeDefined();
      for (const forged of [
        "",
        value.slice(0, -4),
        `x${value}`,
        value.replace(/\d/, (digit) => String(9 - Number(digit))),
      ]) {
        if (forged !== value)
          expect(checkSigned(verify, [secret], { ...sent, headers: { ...others, [header]: forged } })).toBeDefined();
      }
    }
  });
});

test.each(timed)("VER-2: %s accepts a time 300 s away, into the past and the future, and no other", async (verify) => {
  for (const [offset, passes] of [
    [-301, false],
    [-300, true],
    [300, true],
    [301, false],
  ] as const) {
    const refusal = checkSigned(verify, [secret], await signers[verify](secret, now + offset));
    if (passes) expect(refusal).toBeUndefined();
    else expect(refusal).toMatch(/more than 300 s/);
  }
  for (const time of ["", "soon", "-1", "1e9", "99999999999999"]) {
    const sent = await signers[verify](secret, now);
    const headers = Object.fromEntries(
      Object.entries(sent.headers ?? {}).map(([name, value]) => [name, value.replace(String(now), time)]),
    );
    expect(checkSigned(verify, [secret], { ...sent, headers })).toBeDefined();
  }
});

test("VER-2: the tolerance of hmac is that of its rule, and milliseconds are understood", () => {
  const rule = { ...hmacRule, signed: "{timestamp}:{body}", toleranceSeconds: 10 };
  const at = (ms: number): Sent => ({
    now,
    body,
    headers: { "x-ts": String(ms), "x-sig": hexOf(secret, `${ms}:${body}`) },
  });
  expect(check("hmac", [secret], at(now * 1_000 - 9_999), rule)).toBeUndefined();
  expect(check("hmac", [secret], at(now * 1_000 - 10_001), rule)).toMatch(/more than 10 s/);
});

test("VER-4: Twilio's URL counts with and without its port, and repeated fields in their order", () => {
  const headers = { "content-type": "application/x-www-form-urlencoded" };
  const form = "b=2&a=1&b=1&b=2";
  const signed = (url: string): string => createHmac("sha1", secret).update(`${url}a1b1b2`).digest("base64");
  const sentTo = (url: string, signedUrl: string): Sent => ({
    url,
    body: form,
    headers: { ...headers, "x-twilio-signature": signed(signedUrl) },
  });
  expect(check("twilio", [secret], sentTo("https://x.test/h?q=%20", "https://x.test:443/h?q=%20"))).toBeUndefined();
  expect(check("twilio", [secret], sentTo("https://x.test:8443/h", "https://x.test/h"))).toBeUndefined();
  expect(check("twilio", [secret], sentTo("https://x.test:8443/h", "https://x.test:8443/h"))).toBeUndefined();
  expect(check("twilio", [secret], sentTo("https://x.test/h", "https://y.test/h"))).toMatch(/PUBLIC_URL/);
});

test("VER-4: of a repeated field Twilio signs each value once, in order", () => {
  const url = "https://x.test/h";
  const signature = createHmac("sha1", secret).update(`${url}Aa1Aa2Bb3`).digest("base64");
  const headers = { "x-twilio-signature": signature, "content-type": "application/x-www-form-urlencoded" };
  expect(check("twilio", [secret], { url, headers, body: "Bb=3&Aa=2&Aa=1&Aa=2" })).toBeUndefined();
});

test("VER-6: none checks nothing", () => {
  expect(check("none", [], { body })).toBeUndefined();
});

test("VER-3: Meta's challenge is answered for the verify token only", () => {
  const query = (given: Record<string, string>): URLSearchParams => new URLSearchParams(given);
  const good = { "hub.mode": "subscribe", "hub.challenge": "1158201444", "hub.verify_token": "token" };
  expect(metaChallenge(query(good), "token")).toBe("1158201444");
  expect(metaChallenge(query(good), "other")).toBeUndefined();
  expect(metaChallenge(query({ ...good, "hub.mode": "unsubscribe" }), "token")).toBeUndefined();
  expect(metaChallenge(query({ ...good, "hub.challenge": "<b>\n" }), "token")).toBeUndefined();
  expect(metaChallenge(query({ ...good, "hub.challenge": "9".repeat(257) }), "token")).toBeUndefined();
  expect(metaChallenge(query({}), "token")).toBeUndefined();
});

test("VER-3: Slack's url_verification has a challenge, no other body has", () => {
  expect(slackChallenge(Buffer.from('{"type":"url_verification","challenge":"abc","token":"t"}'))).toBe("abc");
  for (const other of [
    '{"type":"event_callback","challenge":"abc"}',
    '{"type":"url_verification"}',
    "[]",
    "null",
    "5",
  ]) {
    expect(slackChallenge(Buffer.from(other))).toBeUndefined();
  }
});
