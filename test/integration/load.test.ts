/** Load figures of nodes and of the private API: two gateways on one Redis, and nodes that the test simulates. */
import { readFile } from "node:fs/promises";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { parseAllDocuments } from "yaml";
import type { Gateway } from "../../gateway/gateway.ts";
import { type Dimension, dimensionNames } from "../../shared/load/dimensions.ts";
import { loadFactor } from "../../shared/load/factor.ts";
import { RedisNodeRegistry } from "../../shared/nodes/redis.ts";
import { Cells } from "../../shared/redis/cells.ts";
import { RedisConnections } from "../../shared/redis/connections.ts";
import { eventually } from "../support/eventually.ts";
import { type Fleet, startFleet, tokens } from "../support/fleet.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";
import { metricOf } from "../support/gateway-metrics.ts";
import { nodeReport } from "../support/node-reports.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { closeClients, connectClient } from "../support/stock-client.ts";

let redis: RedisServer;
let fleet: Fleet;
let connections: RedisConnections;
beforeAll(async () => {
  redis = await startRedis();
  const target = { kind: "standalone", url: redis.url } as const;
  fleet = await startFleet({ target, gateways: 2, environment: { PUBLIC_URL: "https://live.example" }, rules: {} });
  connections = new RedisConnections({ target, errors: quietErrors, logger: quietLogger });
  await connections.start();
});
afterEach(closeClients);
afterAll(async () => {
  await connections.stop();
  await fleet.stop();
  await redis.stop();
});

interface Load {
  node: string;
  state: string;
  connections: number;
  factor: number;
  dimensions: Record<Dimension, number>;
}

async function loadOf(gateway: Gateway): Promise<Load> {
  const answer = await fetch(`http://127.0.0.1:${gateway.adminDoor.port}/load`);
  expect(answer.status).toBe(200);
  return (await answer.json()) as Load;
}

async function nodes(): Promise<Record<string, unknown>[]> {
  const { status, body } = await fleet.api("GET", "/v1/nodes", undefined, { token: tokens.reader });
  expect(status).toBe(200);
  return body["nodes"] as Record<string, unknown>[];
}

test("LOAD-4: a node shows its load as JSON and as metrics, each dimension as used ÷ allowed", async () => {
  const [gateway] = fleet.gateways;
  if (!gateway) throw new Error("two gateways");
  await Promise.all(Array.from({ length: 50 }, () => connectClient(fleet.urls[0] ?? "")));
  await eventually(async () => {
    const { connections, dimensions } = await loadOf(gateway);
    return connections === 50 && dimensions.connections > 0;
  });
  const load = await loadOf(gateway);
  expect(Object.keys(load)).toEqual(["node", "state", "connections", "factor", "dimensions"]);
  expect(Object.keys(load.dimensions)).toEqual(dimensionNames);
  expect(load).toMatchObject({ node: "node-1", state: "ready", connections: 50 });
  expect(load.dimensions.connections).toBeLessThanOrEqual(0.005);
  for (const name of ["eventLoop", "cpu", "memory"] as const) expect(load.dimensions[name]).toBeGreaterThan(0);
  // Near saturation a thousandth of a dimension changes the factor by more.
  expect(load.factor / loadFactor(load.dimensions)).toBeCloseTo(1, 1);
  expect(await metricOf(gateway, "load_factor")).toBeGreaterThan(0);
  for (const name of dimensionNames) {
    const shown = await metricOf(gateway, `load_dimension{dimension="${name}"}`);
    expect(shown).toBeGreaterThanOrEqual(0);
  }
  expect(await metricOf(gateway, `load_dimension{dimension="memory"}`)).toBeGreaterThan(0);
});

test("LOAD-5: the private API shows the load of all nodes and the desired nodes, as JSON and metrics", async () => {
  await Promise.all(Array.from({ length: 20 }, () => connectClient(fleet.urls[1] ?? "")));
  await eventually(async () => {
    const { body } = await fleet.api("GET", "/v1/load", undefined, { token: tokens.reader });
    const items = body["items"] as Load[];
    return items.length === 2 && (items[1]?.connections ?? 0) >= 20 && (items[1]?.factor ?? 0) > 0;
  });
  const { body } = await fleet.api("GET", "/v1/load");
  const items = body["items"] as Load[];
  expect(items.map(({ node }) => node)).toEqual(["node-1", "node-2"]);
  for (const item of items) {
    expect(Object.keys(item)).toEqual(["node", "state", "connections", "factor", "dimensions"]);
    expect(Object.keys(item.dimensions)).toEqual(dimensionNames);
  }
  const factors = items.map(({ factor }) => factor);
  expect(body).toEqual({
    nodes: 2,
    mean: expect.closeTo(((factors[0] ?? 0) + (factors[1] ?? 0)) / 2, 2) as number,
    max: expect.closeTo(Math.max(...factors), 2) as number,
    desiredNodes: expect.any(Number) as number,
    items,
    dispatchers: { factor: expect.any(Number) as number, desired: expect.any(Number) as number },
  });
  // A busy machine slows the two nodes down: they may need up to twice as many and two.
  expect([2, 3, 4, 5, 6]).toContain(body["desiredNodes"]);
  const metrics = await apiMetrics();
  expect(metrics).toContain("\ntidegate_fleet_nodes 2\n");
  expect(metrics).toMatch(/\ntidegate_fleet_desired_nodes [2-6]\n/);
  expect(metrics).toMatch(/\ntidegate_fleet_load_factor\{stat="mean"\} \d+\.\d+\n/);
  expect(metrics).toMatch(/\ntidegate_fleet_load_factor\{stat="max"\} \d+\.\d+\n/);
  expect((await fleet.api("GET", "/v1/load", undefined, { token: null })).status).toBe(401);
});

async function apiMetrics(): Promise<string> {
  return (await fetch(`${fleet.apiUrl}/metrics`)).text();
}

test("NODE-8: nodes show with state, share and drain; a drain is ordered by name; a dead node disappears", async () => {
  const registry = new RedisNodeRegistry(new Cells(connections));
  const drain = { startedAt: 1_780_000_000_500, sessions: 7, moved: 3, closed: 0, forced: 0, lost: 0, left: 0 };
  const leaving = nodeReport({ node: "leaving", state: "draining", connections: 4, admissionWeight: 0, drain });
  const request = { budgetPerSecond: 100_000, heldPerSecond: 0 };
  expect((await registry.report(leaving, request)).order).toBe(undefined);
  const [first, ...others] = await nodes();
  expect(first).toEqual({
    ...{ node: "leaving", instance: leaving.instance, state: "draining", startedAt: leaving.startedAt },
    ...{ connections: 4, maxConnections: 100, factor: 0, admissionsPerSecond: 0, drain },
  });
  expect(others.map(({ node, state, url, maxConnections }) => ({ node, state, url, maxConnections }))).toEqual(
    ["node-1", "node-2"].map((node) => ({ node, state: "ready", url: "https://live.example", maxConnections: 10_000 })),
  );
  for (const { admissionsPerSecond } of others) expect(admissionsPerSecond).toBeGreaterThan(0);
  expect(await fleet.api("POST", "/v1/nodes/leaving/drain")).toMatchObject({ status: 202, body: {} });
  expect((await registry.report(leaving, request)).order).toBe("drain");
  const unknown = await fleet.api("POST", "/v1/nodes/nobody/drain");
  expect(unknown).toMatchObject({ status: 404, body: { code: "not_found" } });
  const forbidden = await fleet.api("POST", "/v1/nodes/leaving/drain", undefined, { token: tokens.reader });
  expect(forbidden).toMatchObject({ status: 403, body: { code: "missing_scope" } });
  await eventually(async () => (await nodes()).length === 2);
  expect(await fleet.api("POST", "/v1/nodes/leaving/drain")).toMatchObject({ status: 404 });
});

test("NODE-2: two gateways share nine tenths of the budget", async () => {
  const shares = async (): Promise<number[]> =>
    (await nodes()).map(({ admissionsPerSecond }) => Number(admissionsPerSecond));
  const budget = 100_000;
  await eventually(async () => {
    const [one = 0, two = 0] = await shares();
    expect(one + two).toBeLessThanOrEqual(0.95 * budget);
    return one + two > 0.85 * budget && Math.min(one, two) > 0.2 * budget;
  });
});

interface Manifest {
  kind?: string;
  metadata?: { name: string };
  spec: Record<string, never>;
}

async function manifests(file: string): Promise<Manifest[]> {
  const text = await readFile(new URL(`../../deploy/kubernetes/${file}`, import.meta.url), "utf8");
  return parseAllDocuments(text).map((document) => document.toJS() as Manifest);
}

test("LOAD-6: the series named in the KEDA and Prometheus adapter manifests exist", async () => {
  const [authentication, scaled] = (await manifests("gateway-keda.yaml")) as [Manifest, Manifest];
  const { triggers, minReplicaCount, scaleTargetRef } = scaled.spec as unknown as {
    triggers: { type: string; metadata: Record<string, string>; authenticationRef: { name: string } }[];
    minReplicaCount: number;
    scaleTargetRef: { name: string };
  };
  expect(triggers).toHaveLength(1);
  const { metadata = {}, authenticationRef } = triggers[0] ?? {};
  expect(authenticationRef?.name).toBe(authentication.metadata?.name);
  expect(authentication.spec["secretTargetRef"]).toEqual([expect.objectContaining({ parameter: "token" })]);
  expect(metadata).toMatchObject({ authMode: "bearer", aggregateFromKubeServiceEndpoints: "true", targetValue: "1" });
  const { pathname } = new URL(metadata["url"] ?? "");
  const { status, body } = await fleet.api("GET", pathname, undefined, { token: tokens.reader });
  expect(status).toBe(200);
  expect(body[metadata["valueLocation"] ?? ""]).toBeGreaterThanOrEqual(minReplicaCount);
  expect(minReplicaCount).toBeGreaterThan(0);

  const [ofQueues] = (await manifests("private-api-keda.yaml")) as [Manifest];
  const { triggers: [trigger] = [] } = ofQueues.spec as unknown as { triggers?: typeof triggers };
  expect(trigger?.authenticationRef.name).toBe(authentication.metadata?.name);
  expect(trigger?.metadata).toEqual({ ...metadata, valueLocation: "dispatchers.desired" });
  expect((body["dispatchers"] as { desired: number }).desired).toBeGreaterThanOrEqual(1);

  const [autoscaler] = (await manifests("gateway-hpa.yaml")) as [Manifest];
  const { metrics, scaleTargetRef: target } = autoscaler.spec as unknown as {
    metrics: { external: { metric: { name: string }; target: object } }[];
    scaleTargetRef: { name: string };
  };
  expect(target.name).toBe(scaleTargetRef.name);
  const [{ external }] = metrics as [(typeof metrics)[0]];
  expect(external.target).toEqual({ type: "AverageValue", averageValue: "1" });
  expect(await apiMetrics()).toMatch(new RegExp(`\n${external.metric.name} [1-9]\\d*\n`));
  const [values] = (await manifests("prometheus-adapter-rules.yaml")) as unknown as [
    { rules: { external: { seriesQuery: string; metricsQuery: string }[] } },
  ];
  expect(values.rules.external.map(({ seriesQuery, metricsQuery }) => [seriesQuery, metricsQuery])).toEqual([
    [`{__name__="${external.metric.name}"}`, `max(${external.metric.name})`],
  ]);
});

test("LOAD-5: while Redis is away fleet metrics are absent, and /v1/load is broker_unavailable", async () => {
  await redis.kill();
  await eventually(async () => !(await apiMetrics()).includes("\ntidegate_fleet_"));
  const { status, body } = await fleet.api("GET", "/v1/load");
  expect(status).toBe(503);
  expect(body).toMatchObject({ code: "broker_unavailable", retryable: true });
  await redis.restart();
  await eventually(async () => (await apiMetrics()).includes("\ntidegate_fleet_nodes 2\n"));
});
