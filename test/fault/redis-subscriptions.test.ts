/** Subscriptions that are lost silently. */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { afterEach, expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { type Fleet, startFleet } from "../support/fleet.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { closeClients, connectClient } from "../support/stock-client.ts";

let redis: RedisServer;
let fleet: Fleet;
let link: Link;
afterEach(async () => {
  closeClients();
  await fleet.stop();
  await link.stop();
  await redis.stop();
});

const channel = "board:1";

async function brokerHealth(): Promise<[status: number, broker: string]> {
  const ready = await fetch(`http://127.0.0.1:${fleet.gateways[0]?.adminDoor.port}/readyz`);
  return [ready.status, ((await ready.json()) as { checks: { broker: string } }).checks.broker];
}

async function publish(data: string): Promise<void> {
  expect((await fleet.api("POST", "/v1/publish", { channel, event: "moved", data })).status).toBe(200);
}

async function start(): Promise<void> {
  redis = await startRedis();
  link = await startLink(redis.port);
  fleet = await startFleet({
    target: { kind: "standalone", url: `redis://127.0.0.1:${link.port}` },
    gateways: 1,
    rules: {},
  });
}

test("PROBE-1: a silent subscription is detected and reopened; missed publications are delivered", async () => {
  await start();
  const client = await connectClient(fleet.urls[0] ?? "");
  await client.subscribe(channel);
  await publish("before");
  await client.next(({ data }) => data === "before");
  link.deafen({ lasting: false });
  await publish("missed");
  await client.next(({ data }) => data === "missed");
  await eventually(() => fleet.log().includes("reconnecting"));
  await publish("after");
  await client.next(({ data }) => data === "after");
  expect(client.received.map(({ data }) => data)).toEqual(["before", "missed", "after"]);
  await eventually(async () => (await brokerHealth())[1] === "ok");
});

test("PROBE-2: a node is not ready while Redis answers commands but delivers no probes", async () => {
  await start();
  const client = await connectClient(fleet.urls[0] ?? "");
  await client.subscribe(channel);
  expect(await brokerHealth()).toEqual([200, "ok"]);
  link.deafen({ lasting: true });
  await eventually(async () => (await brokerHealth())[0] === 503);
  expect(await brokerHealth()).toEqual([503, "fail"]);
  expect(client.socket.connected).toBe(true);
  link.heal();
  await eventually(async () => (await brokerHealth())[0] === 200);
  await publish("after");
  await client.next(({ data }) => data === "after");
});

interface Link {
  readonly port: number;
  /** Swallows what Redis sends over connections with a subscription; if it lasts, on future ones too. */
  deafen(options: { lasting: boolean }): void;
  heal(): void;
  stop(): Promise<void>;
}

/** A proxy that passes everything on unless told otherwise. */
async function startLink(target: number): Promise<Link> {
  const subscribers = new Set<{ deaf: boolean }>();
  const sockets = new Set<Socket>();
  let lasting = false;
  const listener = createServer((client) => {
    const server = connect({ port: target, host: "127.0.0.1" });
    const pair = { deaf: false };
    client.on("data", (chunk) => {
      if (/ssubscribe/i.test(chunk.toString("latin1"))) {
        subscribers.add(pair);
        pair.deaf ||= lasting;
      }
      server.write(chunk);
    });
    server.on("data", (chunk) => {
      if (!pair.deaf) client.write(chunk);
    });
    for (const [socket, other] of [
      [client, server],
      [server, client],
    ] as const) {
      sockets.add(socket);
      socket.on("error", () => undefined);
      socket.on("close", () => {
        sockets.delete(socket);
        subscribers.delete(pair);
        other.destroy();
      });
    }
  });
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  return {
    port: (listener.address() as AddressInfo).port,
    deafen: (options) => {
      lasting = options.lasting;
      for (const pair of subscribers) pair.deaf = true;
    },
    heal: () => void (lasting = false),
    stop: async () => {
      for (const socket of sockets) socket.destroy();
      listener.close();
      await once(listener, "close");
    },
  };
}
