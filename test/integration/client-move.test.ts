/** SDK clients while one of two nodes drains. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { type ClientState, connect } from "../../client/src/index.ts";
import { eventually } from "../support/eventually.ts";
import { type Fleet, serviceSecret, startFleet } from "../support/fleet.ts";
import { answerJson, type HttpService, startService } from "../support/http-service.ts";
import { freePort } from "../support/processes.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { repeat } from "../support/repeat.ts";
import { userToken } from "../support/stock-client.ts";
import { reached } from "../unit/client-fake-gateway.ts";

let redis: RedisServer;
let service: HttpService;
let fleet: Fleet;

beforeAll(async () => {
  redis = await startRedis();
  service = await startService();
  const ports = [await freePort(), await freePort()];
  fleet = await startFleet({
    target: { kind: "standalone", url: redis.url },
    gateways: 2,
    gatewaySettings: ports.map((port) => ({
      GATEWAY_PORT: String(port),
      PUBLIC_URL: `http://127.0.0.1:${port}`,
      GATEWAY_DRAIN_SECONDS: "8",
    })),
    rules: {
      namespaces: { room: { access: "user", historySize: 1000 } },
      services: { board: { url: service.url, secret: serviceSecret, timeoutMs: 60_000 } },
      routes: [{ event: "card.*", service: "board", path: "/events/{event}", mode: "call" }],
    },
  });
});
afterAll(async () => {
  await fleet.stop();
  await service.stop();
  await redis.stop();
});

test("SDK-7: clients of a draining node move: nothing lost or doubled, open calls are answered", async () => {
  const members = await Promise.all(
    Array.from({ length: 20 }, async (_, at) => {
      const client = connect({ url: fleet.urls[0] ?? "", token: () => userToken({ sub: `user-${at}` }) });
      const heard = { ticks: [] as unknown[], hints: [] as unknown[], notes: [] as unknown[], pings: 0 };
      const room = client.channel("room:1");
      room.on("tick", (data) => heard.ticks.push(data));
      room.on("hint", (data) => heard.hints.push(data));
      client.onMessage("note", (data) => heard.notes.push(data));
      client.onMessage("ping", () => heard.pings++);
      await room.subscribe();
      const states: ClientState[] = [];
      client.onState((state) => states.push(state));
      return { client, heard, states };
    }),
  );
  const held: (() => void)[] = [];
  service.answer = (_request, response) => void held.push(() => answerJson(response, { late: true }));
  const calls = members.map(async ({ client }) => client.call("card.move"));
  await eventually(() => held.length === members.length);
  const before = members.map(({ client }) => client.state);
  const publishing = repeat(async ({ length: count }) => {
    await fleet.api("POST", "/v1/publish", { channel: "room:1", event: "tick", data: count });
    await fleet.api("POST", "/v1/publish", { channel: "room:1", event: "hint", data: count, history: false });
    await fleet.api("POST", "/v1/users/user-0/send", { event: "note", data: count });
    await fleet.api("POST", "/v1/users/user-0/send", { event: "ping", data: null });
    return count;
  });
  const stopped = fleet.gateways[0]?.stop();
  // All are on the other node while their calls are open on this one.
  await eventually(() => members.every(({ states }) => states.length > 0));
  for (const answer of held) answer();
  await stopped;
  expect(await Promise.all(calls)).toEqual(members.map(() => ({ late: true })));
  await Promise.all(members.map(async ({ client }) => reached(client, "connected")));
  const all = await publishing.stop();
  await eventually(() => members.every(({ heard }) => heard.ticks.length >= all.length));
  await eventually(() => (members[0]?.heard.notes.length ?? 0) >= all.length);
  await eventually(() => (members[0]?.heard.pings ?? 0) >= all.length);
  for (const [at, { heard, states }] of members.entries()) {
    expect(heard.ticks).toEqual(all);
    expect(new Set(heard.hints).size).toBe(heard.hints.length);
    expect(states).toEqual([{ ...before[at], node: "node-2", resumed: true }]);
  }
  expect(members[0]?.heard.notes).toEqual(all);
  expect(members[0]?.heard.pings).toBe(all.length);
  const drained = fleet
    .log()
    .split("\n")
    .find((line) => line.includes('"msg":"drained"'));
  expect(JSON.parse(drained ?? "{}")).toMatchObject({ sessions: 20, moved: 20, closed: 0, forced: 0, lost: 0 });
  for (const { client } of members) client.close();
});
