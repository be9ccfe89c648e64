/** Settings, tokens and rules that are wrong in a way that works in part: what warns of them. */
import { afterEach, expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { type Fleet, serviceSecret, startFleet } from "../support/fleet.ts";
import { linesWith } from "../support/log-lines.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { closeClients, connectClient } from "../support/stock-client.ts";

let fleet: Fleet | undefined;
let redis: RedisServer | undefined;
afterEach(async () => {
  closeClients();
  await fleet?.stop();
  await redis?.stop();
});

test("WARN-1: gateways of one fleet whose settings differ are named in the log", async () => {
  redis = await startRedis();
  const secret = "another secret of the test that is long enough";
  fleet = await startFleet({
    target: { kind: "standalone", url: redis.url },
    gateways: 2,
    gatewaySettings: [
      { GATEWAY_NODE: "twin", GATEWAY_MAX_CONNECTIONS: "10" },
      { GATEWAY_NODE: "twin", GATEWAY_MAX_CONNECTIONS: "5000", AUTH_JWT_SECRET: secret, RESUME_SECRET: secret },
    ],
  });
  const phrases = [
    "two gateways have one name",
    "gateways have different resume secrets",
    "gateways have different JWT secrets",
    "a gateway takes far fewer connections than another one",
  ];
  for (const phrase of phrases) await eventually(() => linesWith(fleet?.log() ?? "", phrase).length === 1);
  expect(linesWith(fleet.log(), "far fewer")[0]).toMatchObject({ node: "twin", maxConnections: 10 });
  expect(fleet.log()).not.toContain(secret);
});

test("WARN-1: gateways in the middle of a rotation give no warning", async () => {
  redis = await startRedis();
  const [present, next] = ["the present secret of the test for HS256", "the next secret of the test for HS256"];
  fleet = await startFleet({
    target: { kind: "standalone", url: redis.url },
    gateways: 2,
    gatewaySettings: [
      // A difference that is warned of: both have been compared once it is.
      { GATEWAY_MAX_CONNECTIONS: "10", AUTH_JWT_SECRET: present, RESUME_SECRET: `${present},${next}` },
      {
        ...{ GATEWAY_MAX_CONNECTIONS: "5000", AUTH_JWT_SECRET: `${present},${next}` },
        RESUME_SECRET: `${next},${present}`,
      },
    ],
  });
  await eventually(() => linesWith(fleet?.log() ?? "", "far fewer connections").length === 1);
  expect(fleet.log()).not.toMatch(/gateways have different|one name/);
});

test("WARN-2: an exp in milliseconds, and patterns that no channel matches, are named in the log", async () => {
  fleet = await startFleet({ rules: {} });
  await connectClient(fleet.urls[0] ?? "", { exp: Date.now() + 3_600_000 });
  await connectClient(fleet.urls[0] ?? "", { channels: ["board:*", "Room:*"] });
  await connectClient(fleet.urls[0] ?? "", { channels: ["room"] });
  expect(linesWith(fleet.log(), "the exp of a token is in milliseconds")).toHaveLength(1);
  const [line, ...more] = linesWith(fleet.log(), "a channel pattern of the token can never match");
  expect(line).toMatchObject({ pattern: "Room:*" });
  expect(more).toEqual([]);
});

test("WARN-3: classes of DISPATCH_CLASSES that the rules do not have are named in the log", async () => {
  fleet = await startFleet({
    environment: { DISPATCH_CLASSES: "messages,stat,endpoints" },
    rules: { classes: { stats: {} } },
  });
  const phrase = "DISPATCH_CLASSES names classes that the rules do not have";
  await eventually(() => linesWith(fleet?.log() ?? "", phrase).length > 0);
  const [line, ...more] = linesWith(fleet.log(), phrase);
  expect(line).toMatchObject({ classes: ["stat"] });
  expect(more).toEqual([]);
});

test("WARN-4: a secret of a source that ends in a line break is named in the log, and not shown", async () => {
  const sourceOf = (variable: string): object => ({ verify: "github", secrets: [`env:${variable}`], route: "ci.push" });
  fleet = await startFleet({
    environment: { PADDED_SECRET: "shared with the provider\n", SOUND_SECRET: "shared, too" },
    rules: {
      services: { ci: { url: "http://ci.test", secret: serviceSecret } },
      routes: [{ event: "ci.push", service: "ci", path: "/", mode: "enqueue" }],
      sources: { padded: sourceOf("PADDED_SECRET"), sound: sourceOf("SOUND_SECRET") },
    },
  });
  const phrase = "secrets of webhook sources begin or end with white space";
  await eventually(() => linesWith(fleet?.log() ?? "", phrase).length > 0);
  const [line] = linesWith(fleet.log(), phrase);
  expect(line).toMatchObject({ variables: ["PADDED_SECRET"] });
  expect(fleet.log()).not.toContain("shared");
});

test("RULE-12: a publish to a namespace that the rules do not list is counted, or refused", async () => {
  fleet = await startFleet({ rules: { namespaces: { board: {} } } });
  const publish = async (channel: string): Promise<[number, unknown]> => {
    const { status, body } = (await fleet?.api("POST", "/v1/publish", { channel, event: "x", data: 1 })) ?? {};
    return [status ?? 0, body?.["code"]];
  };
  const counted = async (): Promise<string | undefined> => {
    const text = await (await fetch(`${fleet?.apiUrl}/metrics`)).text();
    return /^tidegate_publishes_unlisted_namespace_total (\d+)$/m.exec(text)?.[1];
  };
  expect(await publish("board:1")).toEqual([200, undefined]);
  expect(await counted()).toBe("0");
  expect(await publish("baord:1")).toEqual([200, undefined]);
  expect(await counted()).toBe("1");
  await fleet.api("PUT", "/v1/rules", { namespaces: { board: {} }, strictNamespaces: true });
  expect(await publish("baord:1")).toEqual([400, "invalid_request"]);
  expect(await publish("board:1")).toEqual([200, undefined]);
  const [item] = (await fleet.api("POST", "/v1/publish/batch", [{ channel: "baord:1", event: "x", data: 1 }]))
    .body as unknown as { error?: { code: string } }[];
  expect(item?.error?.code).toBe("invalid_request");
});
