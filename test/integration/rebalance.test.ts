/** Sessions that move while their node keeps running. */
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import type { Gateway } from "../../gateway/gateway.ts";
import type { NodeReport, ReportAnswer, ShareRequest } from "../../shared/nodes/contract.ts";
import { MemoryNodeRegistry } from "../../shared/nodes/memory.ts";
import type { Disconnect } from "../../shared/protocol/wire.ts";
import { eventually } from "../support/eventually.ts";
import { type Fleet, serviceSecret, startFleet } from "../support/fleet.ts";
import { metricOf, metricsOf } from "../support/gateway-metrics.ts";
import { answerJson, type HttpService, startService } from "../support/http-service.ts";
import { MovingClient } from "../support/moving-client.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { closeClients, connectClient } from "../support/stock-client.ts";

let redis: RedisServer;
let service: HttpService;
let fleet: Fleet | undefined;

beforeAll(async () => {
  redis = await startRedis();
  service = await startService();
});
afterEach(async () => {
  closeClients();
  await fleet?.stop();
  fleet = undefined;
});
afterAll(async () => {
  await service.stop();
  await redis.stop();
});

const rules = (url: string): object => ({
  namespaces: { room: { presence: true, joinLeave: true, access: "user" } },
  services: { board: { url, secret: serviceSecret } },
  routes: [{ event: "card.*", service: "board", path: "/events/{event}", mode: "call" }],
});

async function publish(to: Fleet, channel: string, count: number): Promise<void> {
  for (let i = 0; i < count; i++) await to.api("POST", "/v1/publish", { channel, event: "tick", data: i });
}

/** All nodes have the factor that the test sets, whatever else the machine is busy with. A node near 1 is sent no sessions. */
class SetFactorRegistry extends MemoryNodeRegistry {
  factor = 1;

  override async report(report: NodeReport, request: ShareRequest): Promise<ReportAnswer> {
    const admissionWeight = report.maxConnections - report.connections;
    return super.report({ ...report, factor: this.factor, admissionWeight }, request);
  }
}

test("MOVE-2: at the end of its lifetime a session moves, also to the same node, and loses nothing", async () => {
  const channel = "room:same";
  const started = (fleet = await startFleet({
    environment: { GATEWAY_SESSION_LIFETIME_SECONDS: "1" },
    rules: rules(service.url),
  }));
  const [url = ""] = started.urls;
  const [gateway] = started.gateways;
  if (!gateway) throw new Error("there is one");
  const watcher = await connectClient(url, { sub: "watcher" });
  await watcher.subscribe(channel);
  let answer = (): void => undefined;
  service.answer = (_request, response) => (answer = () => answerJson(response, { late: true }));
  const mover = await MovingClient.connect({ url, elsewhere: () => url, channel, claims: { sub: "mover" } });
  const first = mover.connection;
  const call = mover.call("card.move", {});
  await eventually(() => service.requests.length === 1);
  // The second connection opens while the call is pending on the first.
  await eventually(() => mover.connection !== first);
  await publish(started, channel, 5);
  await started.api("POST", "/v1/users/mover/send", { event: "note", data: "once" });
  expect(first.socket.connected).toBe(true);
  answer();
  expect(await call).toMatchObject({ ok: true, data: { late: true } });
  await mover.moved;
  await publish(started, channel, 5);
  await eventually(() => mover.offsets.length === 10);
  expect(mover.offsets).toEqual(Array.from({ length: 10 }, (_, at) => at + 1));
  expect(mover.userMessages).toEqual(["once"]);
  expect(mover.connection.welcome).toMatchObject({ resumed: true, sessionId: first.welcome.sessionId });
  await eventually(async () => (await metricOf(gateway, 'disconnects_total{reason="moved"}')) >= 1);
  // The gateway closes the client that does not move by itself, at its move time.
  expect(await watcher.disconnected).toBe("transport close");
  const told = watcher.received.find(({ event }) => event === "sync:disconnect")?.data as Disconnect;
  expect(told).toMatchObject({ code: "draining", reconnect: true });
  expect(watcher.received.filter(({ event }) => event === "sync:leave")).toEqual([]);
});

test("REB-1: after a node joins, the fullest node moves sessions to it until each has its part", async () => {
  const channel = "room:full";
  const nodeRegistry = new SetFactorRegistry();
  const started = (fleet = await startFleet({
    target: { kind: "standalone", url: redis.url },
    gateways: 2,
    nodeRegistry,
    environment: { GATEWAY_MAX_CONNECTIONS: "40" },
    rules: rules(service.url),
  }));
  const [one = "", two = ""] = started.urls;
  const movers = await Promise.all(
    Array.from({ length: 14 }, async (_, at) =>
      MovingClient.connect({ url: one, elsewhere: () => two, channel, claims: { sub: `mover-${at}` } }),
    ),
  );
  const stock = await Promise.all(
    Array.from({ length: 6 }, async (_, at) => connectClient(one, { sub: `stock-${at}` })),
  );
  const counts = async (): Promise<string> => (await metricsOf(started.gateways, "sessions")).join();
  for (const { moved } of movers) void moved.then(async () => publish(started, channel, 5));
  await publish(started, channel, 5);
  expect(await counts()).toBe("20,0");
  // From here on: sessions that connect in the meantime would leave a smaller surplus than nodes care for.
  nodeRegistry.factor = 0;
  await eventually(async () => (await counts()) === "10,10");
  expect(await metricOf(started.gateways[0] as Gateway, 'moves_asked_total{cause="rebalance"}')).toBe(10);
  await eventually(() => movers.every(({ offsets }) => offsets.length === 5 + 10 * 5));
  for (const { offsets } of movers) expect(offsets).toEqual(Array.from({ length: 55 }, (_, at) => at + 1));
  // Stock clients would notice: they stay while clients that move by themselves are there.
  expect(stock.every(({ socket }) => socket.connected)).toBe(true);
});
