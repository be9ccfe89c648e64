/** Makes each mistake of docs/troubleshooting.md, and looks for what the page promises to show. */
import { readFileSync } from "node:fs";
import { Webhook } from "standardwebhooks";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { type Fleet, serviceSecret, startFleet, tokens } from "../support/fleet.ts";
import { answerJson, type HttpService, startService } from "../support/http-service.ts";
import { freePort } from "../support/processes.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { closeClients, connectClient, pollingError, refusedConnect, userToken } from "../support/stock-client.ts";
import { eventually } from "../support/eventually.ts";

const otherSecret = `whsec_${Buffer.from("the secret of some other service").toString("base64")}`;

let redis: RedisServer;
let service: HttpService;
let fleet: Fleet;
/** Of gateways that are set up wrong. */
let mistaken: Fleet;

/** Places, not what is seen there. */
const notShown = new Set([
  ...["PUT /v1/rules", "/readyz", "timeoutMs", "error.context.responseText"],
  ...["GET /v1/nodes", "npm run nodes -- list"],
]);

/** The table of the page: mistake → what it shows, between backticks. */
const rows = new Map(
  readFileSync("docs/troubleshooting.md", "utf8")
    .split("\n")
    .filter((line) => line.startsWith("| ") && !line.startsWith("| mistake"))
    .map((line) => line.split(" | "))
    .map(([mistake = "", shown = ""]) => [
      mistake.slice(2),
      [...shown.matchAll(/`([^`]+)`/g)].map(([, phrase = ""]) => phrase).filter((phrase) => !notShown.has(phrase)),
    ]),
);

beforeAll(async () => {
  redis = await startRedis();
  service = await startService();
  const given = { url: service.url, secret: serviceSecret };
  const services = {
    board: given,
    unsigned: { ...given, secret: otherSecret },
    hasty: { ...given, timeoutMs: 1_000 },
    down: { ...given, url: `http://127.0.0.1:${await freePort()}` },
    nowhere: { ...given, url: "http://no-such-host.invalid" },
  };
  const routes = Object.keys(services).map((name) => ({
    event: `ask.${name}`,
    service: name,
    path: "/ask",
    mode: "call",
  }));
  fleet = await startFleet({ rules: { services, routes } });
  mistaken = await startFleet({
    target: { kind: "standalone", url: redis.url },
    rules: {},
    gateways: 4,
    gatewaySettings: [
      { GATEWAY_NODE: "twin" },
      { GATEWAY_NODE: "twin" },
      { PRIVATE_API_TOKEN: "not-the-relay-token" },
      { PRIVATE_API_TOKEN: tokens.reader },
    ],
  });
});
afterEach(closeClients);
afterAll(async () => {
  await fleet.stop();
  await mistaken.stop();
  await service.stop();
  await redis.stop();
});

/** @param clockAheadMs of the service. */
function verifying(secret: string, clockAheadMs = 0): void {
  service.answer = ({ body, headers }, response) => {
    try {
      const signedAt = Number(headers["webhook-timestamp"]) * 1_000;
      if (Math.abs(Date.now() + clockAheadMs - signedAt) > 300_000) throw new Error("too old");
      new Webhook(secret).verify(body, headers as Record<string, string>);
      answerJson(response, {});
    } catch {
      answerJson(response, {}, 401);
    }
  };
}

/** Answers and log lines to a call. */
async function call(event: string, times = 1): Promise<string> {
  const client = await connectClient(fleet.urls[0] ?? "");
  const answers = [];
  for (let n = 0; n < times; n++) answers.push(await client.request(event, {}));
  const ids = answers.map(({ error }) => String(error?.requestId));
  const lines = fleet
    .log()
    .split("\n")
    .filter((line) => ids.some((id) => line.includes(id)));
  return [
    JSON.stringify(answers),
    ...lines,
    ...fleet
      .log()
      .split("\n")
      .filter((line) => line.includes("circuit is")),
  ].join("\n");
}

async function publish(channel: string, token: string): Promise<string> {
  const { status, text } = await fleet.api("POST", "/v1/publish", { channel, event: "x", data: 1 }, { token });
  return `${status} ${text}`;
}

async function connecting(claims: Record<string, unknown>, secret?: string): Promise<string> {
  return JSON.stringify(await refusedConnect(fleet.urls[0] ?? "", { token: await userToken(claims, secret) }));
}

async function readiness(at: number): Promise<string> {
  const answer = await fetch(`http://127.0.0.1:${mistaken.gateways[at]?.adminDoor.port}/readyz`);
  return `${answer.status} ${await answer.text()} ${mistaken.log()}`;
}

const hookRules = (secret: string): object => ({
  services: { gate: { url: service.url, secret } },
  hooks: { connect: "gate" },
});

/** What each mistake shows. */
const mistakes: Record<string, () => Promise<string>> = {
  "wrong secret at the service": async () => {
    verifying(otherSecret);
    const own = await startFleet({ rules: hookRules(serviceSecret) });
    const refusal = await refusedConnect(own.urls[0] ?? "", { token: await userToken() });
    await own.stop();
    return JSON.stringify(refusal) + own.log();
  },
  "wrong secret in the rules": async () => {
    verifying(serviceSecret);
    return call("ask.unsigned");
  },
  "clock skew of a service": async () => {
    verifying(serviceSecret, 3_600_000);
    return call("ask.board");
  },
  "service down": async () => call("ask.down", 11),
  "slow service": async () => {
    service.answer = () => undefined;
    return call("ask.hasty");
  },
  "wrong URL: the path": async () => {
    service.answer = (_request, response) => response.writeHead(404).end("nothing here");
    return call("ask.board");
  },
  "wrong URL: the host": async () => call("ask.nowhere"),
  "typo in the rules": async () => {
    const routes = [{ event: "a", service: "bord", path: "/", mode: "call" }];
    return (await fleet.api("PUT", "/v1/rules", { routes })).text.replaceAll('\\"', '"');
  },
  "text that is no JSON, in a body or the rules": async () =>
    (await fleet.api("PUT", "/v1/rules", undefined, { text: '{"routes": [\n]]}' })).text,
  "wrong event name": async () => (await call("card.mov")).replaceAll('\\"', '"'),
  "wrong channel": async () => {
    const client = await connectClient(fleet.urls[0] ?? "");
    return JSON.stringify(await client.request("sync:subscribe", { channel: "secret:1" }));
  },
  "pattern that matches nothing": async () => {
    await connectClient(fleet.urls[0] ?? "", { channels: ["Board:*"] });
    return fleet.log();
  },
  "misspelt namespace in a publish": async () => {
    await publish("baord:1", tokens.service);
    const text = await (await fetch(`${fleet.apiUrl}/metrics`)).text();
    expect(text).toMatch(/^tidegate_publishes_unlisted_namespace_total [1-9]/m);
    return text;
  },
  "expired token": async () => connecting({ exp: Math.floor(Date.now() / 1_000) - 60 }),
  "token signed with another secret": async () => connecting({}, "another secret of an issuer, long enough"),
  "`exp` in milliseconds": async () => {
    await connectClient(fleet.urls[0] ?? "", { exp: Date.now() + 3_600_000 });
    return fleet.log();
  },
  "missing scope": async () => (await publish("board:1", tokens.reader)).replaceAll('\\"', '"'),
  "wrong API token": async () => publish("board:1", "no-token-of-the-test"),
  "wrong relay token": async () => readiness(2),
  "relay token with the wrong scope": async () => readiness(3),
  "duplicate node name": async () => {
    await eventually(() => mistaken.log().includes("two gateways have one name"));
    return mistaken.log();
  },
  "node that was drained and forgotten": async () => {
    const node = "/v1/nodes/node-1";
    const state = async (): Promise<string> => (await fleet.api("GET", "/v1/nodes")).text;
    await fleet.api("POST", `${node}/drain`);
    await eventually(async () => (await state()).includes('"state":"draining"'));
    const refusal = await refusedConnect(fleet.urls[0] ?? "", { token: await userToken() });
    const shown = (await state()) + JSON.stringify(refusal);
    await fleet.api("POST", `${node}/undrain`);
    await eventually(async () => (await state()).includes('"state":"ready"'));
    return shown;
  },
  "client that polls": async () => pollingError(fleet.urls[0] ?? ""),
};

describe("FAIL-6: what the page says is what a mistake shows", () => {
  test("the page has a row for each mistake", () => {
    expect([...rows.keys()].toSorted()).toEqual(Object.keys(mistakes).toSorted());
  });

  test.for(Object.keys(mistakes))("%s", async (mistake) => {
    const shown = await mistakes[mistake]?.();
    const phrases = rows.get(mistake) ?? [];
    expect(phrases.length).toBeGreaterThan(0);
    for (const phrase of phrases) expect(shown).toContain(phrase);
  });
});
