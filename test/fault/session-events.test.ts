/**
 * Session events while connections break, nodes are cut off and nodes are killed. The tests wait for grace times: they run side by
 * side. SESSION_EVENT_SESSIONS sets the number of sessions on the nodes that are killed.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { RedisDocumentStore } from "../../shared/documents/redis.ts";
import { Cells } from "../../shared/redis/cells.ts";
import { RedisConnections } from "../../shared/redis/connections.ts";
import { graceMs } from "../../shared/sessions/contract.ts";
import { eventually } from "../support/eventually.ts";
import { type Fleet, jwtSecret, serviceSecret, startFleet, tokens } from "../support/fleet.ts";
import { answerJson, startService } from "../support/http-service.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";
import { freePort, type Spawned, spawnProcess } from "../support/processes.ts";
import { RawClient } from "../support/raw-client.ts";
import { NotOpenedError } from "../support/raw-websocket.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { closeClients, connectClient, userToken } from "../support/stock-client.ts";
import { startTcpProxy, type TcpProxy } from "../support/tcp-proxy.ts";

const sessionCount = Number(process.env["SESSION_EVENT_SESSIONS"] ?? 240);
/** Leases and sweeps come on top of a grace time. */
const giveUpMs = graceMs + 60_000;

let redis: RedisServer;
let listener: Listener;
let fleet: Fleet;
const cleanUp: (() => Promise<void>)[] = [];

beforeAll(async () => {
  [redis, listener] = await Promise.all([startRedis(), startListener()]);
  fleet = await startFleet({ target: { kind: "standalone", url: redis.url }, rules: rulesFor(listener) });
});
afterAll(async () => {
  closeClients();
  for (const clean of cleanUp.toReversed()) await clean();
  await fleet.stop();
  await Promise.all([redis.stop(), listener.stop()]);
});

function rulesFor({ url }: Listener): object {
  return {
    services: { documents: { url, secret: serviceSecret } },
    hooks: { connected: "documents", disconnected: "documents" },
  };
}

interface Listener {
  readonly url: string;
  /** By session. */
  readonly heard: ReadonlyMap<string, readonly Heard[]>;
  stop(): Promise<void>;
}

interface Heard {
  kind: string;
  id: string;
  body: { node: string; at: number; reason?: string };
}

/** What a service hears of each session, in order of arrival. */
async function startListener(): Promise<Listener> {
  const service = await startService();
  const heard = new Map<string, Heard[]>();
  service.answer = ({ headers, path, body }, response) => {
    const sessionId = String(headers["ce-session"]);
    const event = { kind: path.slice("/tidegate/".length), id: String(headers["ce-id"]) };
    heard.set(sessionId, [...(heard.get(sessionId) ?? []), { ...event, body: JSON.parse(body) as Heard["body"] }]);
    answerJson(response, {});
  };
  return { url: service.url, heard, stop: async () => service.stop() };
}

function kindsOf(sessionId: string): string[] {
  return (listener.heard.get(sessionId) ?? []).map(({ kind }) => kind);
}

/**
 * A gateway, with a private API of its own, whose link to Redis can break. That private API delivers nothing: what it could not
 * settle would come again, whosever session it is about.
 */
async function startCutFleet(): Promise<{ cut: Fleet; link: TcpProxy }> {
  const link = await startTcpProxy(redis.port);
  const cut = await startFleet({
    target: { kind: "standalone", url: `redis://127.0.0.1:${link.port}` },
    environment: { DISPATCH_CONCURRENCY: "0" },
  });
  cleanUp.push(async () => {
    link.heal();
    await cut.stop();
    await link.stop();
  });
  return { cut, link };
}

describe.concurrent("session events", () => {
  test("EVT-3: a client that broke is disconnected when its grace time ends", async () => {
    const client = await RawClient.connect(new URL(fleet.urls[0] ?? ""), await userToken());
    const { sessionId } = client.welcome;
    const brokeAt = Date.now();
    client.socket.destroy();
    await eventually(() => kindsOf(sessionId).length === 2, giveUpMs);
    expect(Date.now() - brokeAt).toBeGreaterThan(graceMs - 1_000);
    const [connected, disconnected] = listener.heard.get(sessionId) ?? [];
    expect([connected?.kind, disconnected?.kind]).toEqual(["connected", "disconnected"]);
    expect(disconnected?.body).toMatchObject({ reason: "connection_lost", node: "node-1" });
    expect(Number(disconnected?.body.at) - brokeAt).toBeLessThan(10_000);
  });

  test("EVT-9: a session that ends while its node has no Redis yields its event later", async () => {
    const { cut, link } = await startCutFleet();
    const client = await connectClient(cut.urls[0] ?? "");
    const { sessionId } = client.welcome;
    await eventually(() => kindsOf(sessionId).length === 1);
    link.set("closed");
    link.cut();
    await eventually(() => cut.log().includes("redis connection"));
    client.socket.disconnect();
    link.heal();
    await eventually(() => kindsOf(sessionId).length === 2, giveUpMs);
    expect(kindsOf(sessionId)).toEqual(["connected", "disconnected"]);
  });

  test("EVT-6: a node cut off past the grace time ends its sessions; their clients begin new ones", async () => {
    const { cut, link } = await startCutFleet();
    const client = await connectClient(cut.urls[0] ?? "");
    const { sessionId } = client.welcome;
    await eventually(() => kindsOf(sessionId).length === 1);
    link.set("stalled");
    await eventually(() => kindsOf(sessionId).length === 2, giveUpMs);
    expect(client.socket.connected).toBe(true);
    link.heal();
    const notice = await client.next(({ event }) => event === "sync:disconnect");
    expect(notice.data).toMatchObject({ code: "draining", reconnect: true });
    const resume = { token: undefined, resume: client.welcome.resumeToken };
    const next = await connectClient(fleet.urls[0] ?? "", {}, resume);
    expect(next.welcome.resumed).toBe(false);
    await eventually(() => kindsOf(next.welcome.sessionId).length === 1);
    expect(kindsOf(sessionId)).toEqual(["connected", "disconnected"]);
  });

  test("EVT-4: killed nodes: each session yields one disconnected or one resume, without a gateway too", async () => {
    const [ownRedis, ownListener] = await Promise.all([startRedis(), startListener()]);
    cleanUp.push(async () => void (await Promise.all([ownRedis.stop(), ownListener.stop()])));
    await putRules(ownRedis, rulesFor(ownListener));
    for (let i = 0; i < 2; i++) await startPrivateApi(ownRedis);
    const gateways = await Promise.all([1, 2, 3].map(async (n) => startGateway(ownRedis, `node-${n}`)));
    const placed = await inBatches(sessionCount, async (i) => {
      const node = i % 3;
      const client = await connectAtLast(gateways[node]?.url as URL, await userToken({ sub: `user-${i}` }));
      return { node, client, sessionId: client.welcome.sessionId };
    });
    const all = new Set(placed.map(({ sessionId }) => sessionId));
    expect(all.size).toBe(sessionCount);
    const withKind = (kind: string): Set<string> =>
      new Set(
        [...ownListener.heard].filter(([, heard]) => heard.some((event) => event.kind === kind)).map(([id]) => id),
      );

    const lost = placed.filter(({ node }) => node === 0);
    const [returning, staying] = [lost.filter((_, i) => i % 2 === 0), lost.filter((_, i) => i % 2 === 1)];
    // At once: it may not have stored the last `connected` for delivery.
    gateways[0]?.process.kill("SIGKILL");
    const killedAt = Date.now();
    await gateways[0]?.process.exited;
    const resumed = await inBatches(returning.length, async (i) => {
      const { client } = returning[i] as (typeof returning)[number];
      const url = gateways[1 + (i % 2)]?.url as URL;
      return connectAtLast(url, undefined, { resume: client.welcome.resumeToken });
    });
    expect(resumed.every(({ welcome }) => welcome.resumed && all.has(welcome.sessionId))).toBe(true);
    await eventually(() => withKind("disconnected").size === staying.length, giveUpMs);
    const sentInMs = Date.now() - killedAt;
    // Those of the killed node that did not return, and no others.
    expect(withKind("disconnected")).toEqual(new Set(staying.map(({ sessionId }) => sessionId)));

    for (const { process } of gateways.slice(1)) process.kill("SIGKILL");
    const allKilledAt = Date.now();
    await eventually(() => withKind("disconnected").size === sessionCount, giveUpMs);
    report({ sessionCount, sentInMs, sentWithoutGatewaysInMs: Date.now() - allKilledAt });

    for (const [sessionId, heard] of ownListener.heard) {
      // A delivery may be repeated, under its id.
      expect([...new Set(heard.map(({ id }) => id))]).toEqual([`connected-${sessionId}`, `disconnected-${sessionId}`]);
      const body = heard.at(-1)?.body;
      expect(body).toMatchObject({ reason: "node_lost" });
      expect(body?.at).toBeLessThanOrEqual(Date.now() - graceMs + 1_000);
    }
    expect(ownListener.heard.size).toBe(sessionCount);
  }, 300_000);
});

/** For the person who runs it with another number of sessions. */
function report(figures: Record<string, number>): void {
  process.stdout.write(`${JSON.stringify(figures)}\n`);
}

/** As clients do: a busy node refuses connections that would wait at its gate for too long. */
async function connectAtLast(url: URL, token: string | undefined, auth = {}): Promise<RawClient> {
  for (;;) {
    try {
      return await RawClient.connect(url, token, auth);
    } catch (error) {
      if (!(error instanceof NotOpenedError) || !error.received.startsWith("HTTP/1.1 503")) throw error;
    }
  }
}

async function inBatches<Result>(count: number, make: (index: number) => Promise<Result>): Promise<Result[]> {
  const results: Result[] = [];
  for (let at = 0; at < count; at += 20) {
    const batch = Array.from({ length: Math.min(20, count - at) }, async (_, i) => make(at + i));
    results.push(...(await Promise.all(batch)));
  }
  return results;
}

async function putRules({ url }: RedisServer, document: object): Promise<void> {
  const target = { kind: "standalone", url } as const;
  const connections = new RedisConnections({ target, errors: quietErrors, logger: quietLogger });
  await connections.start();
  await new RedisDocumentStore(new Cells(connections), "rules").put({ document, changedAt: Date.now() });
  await connections.stop();
}

async function start(program: string, env: Record<string, string>, printed: string): Promise<Spawned> {
  const started = spawnProcess(process.execPath, [program], { env });
  cleanUp.push(async () => {
    started.kill("SIGKILL");
    await started.exited;
  });
  await started.printed(printed);
  return started;
}

async function startPrivateApi({ url }: RedisServer): Promise<Spawned> {
  const env = {
    PRIVATE_API_HOST: "127.0.0.1",
    PRIVATE_API_PORT: String(await freePort()),
    PRIVATE_API_TOKENS: JSON.stringify([{ name: "gateway", token: tokens.relay, scopes: ["relay"] }]),
    REDIS_URL: url,
  };
  return start("private-api/main.ts", env, "private API listening");
}

/** No hook and no call asks the private API. */
async function startGateway({ url }: RedisServer, node: string): Promise<{ url: URL; process: Spawned }> {
  const port = await freePort();
  const env = {
    GATEWAY_HOST: "127.0.0.1",
    GATEWAY_PORT: String(port),
    GATEWAY_ADMIN_PORT: String(await freePort()),
    GATEWAY_NODE: node,
    AUTH_JWT_SECRET: jwtSecret,
    PRIVATE_API_TOKEN: tokens.relay,
    PRIVATE_API_URL: "http://127.0.0.1:9",
    REDIS_URL: url,
  };
  return {
    url: new URL(`http://127.0.0.1:${port}`),
    process: await start("gateway/main.ts", env, "gateway listening"),
  };
}
