/** Slots move and primaries die in a Redis Cluster under load. */
import { afterEach, expect, test } from "vitest";
import { channelKeys } from "../../shared/channels/keys.ts";
import { slotOf } from "../../shared/redis/slots.ts";
import type { Position, Resync } from "../../shared/protocol/wire.ts";
import { allHave, expectRefused } from "../support/broker-health.ts";
import { eventually } from "../support/eventually.ts";
import { type ApiAnswer, type Fleet, startFleet } from "../support/fleet.ts";
import {
  beginSlotMove,
  command,
  hashSlotOf,
  ownerOf,
  type RedisCluster,
  startRedisCluster,
} from "../support/redis-cluster.ts";
import { repeat } from "../support/repeat.ts";
import { closeClients, connectClient, type StockClient } from "../support/stock-client.ts";

let cluster: RedisCluster;
let fleet: Fleet;
afterEach(async () => {
  closeClients();
  await fleet.stop();
  await cluster.stop();
});

const channels = Array.from({ length: 12 }, (_, n) => `board:${n}`);
const [moving = ""] = channels;

async function start(replicas: number): Promise<StockClient[]> {
  cluster = await startRedisCluster({ replicas });
  fleet = await startFleet({
    target: cluster.target,
    gateways: 2,
    rules: { namespaces: { board: { historySize: 1_000 } } },
  });
  const clients = await Promise.all(fleet.urls.map((url) => connectClient(url)));
  for (const client of clients) for (const channel of channels) await client.subscribe(channel);
  return clients;
}

/** The acknowledged publications of one channel, in order. */
type Acknowledged = Map<string, { data: number; position: Position }[]>;

/** Publishes on each channel, one item after the other, until stopped. */
function publishOnAll(): { acknowledged: Acknowledged; refused: Set<string>; end(): Promise<void> } {
  const acknowledged: Acknowledged = new Map(channels.map((channel) => [channel, []]));
  const refused = new Set<string>();
  const running = channels.map((channel, n) => {
    let data = 0;
    return repeat(async () => {
      data++;
      const id = n % 2 === 0 ? undefined : `${channel} ${data}`;
      const answer = await fleet.api("POST", "/v1/publish", {
        channel,
        event: "n",
        data,
        ...(id !== undefined && { id }),
      });
      if (answer.status === 200) {
        acknowledged.get(channel)?.push({ data, position: answer.body as unknown as Position });
      } else {
        refused.add(`${answer.status} ${String(answer.body["code"])}`);
      }
    });
  });
  return {
    acknowledged,
    refused,
    end: async () => void (await Promise.all(running.map(async (each) => each.stop()))),
  };
}

function receivedOf(client: StockClient, channel: string): { data: unknown; offset: number }[] {
  return client.received.flatMap(({ event, data, meta }) => {
    const { channel: of, offset } = (meta ?? {}) as { channel?: string; offset?: number };
    return event === "n" && of === channel && offset !== undefined ? [{ data, offset }] : [];
  });
}

/** Every acknowledged publication arrived once and in order, unless a resync reported a gap. */
async function expectAllDelivered(clients: readonly StockClient[], acknowledged: Acknowledged): Promise<void> {
  for (const client of clients) {
    for (const [channel, published] of acknowledged) {
      const last = published.at(-1)?.position.offset ?? 0;
      await eventually(() => (receivedOf(client, channel).at(-1)?.offset ?? 0) >= last);
      const received = receivedOf(client, channel);
      const offsets = received.map(({ offset }) => offset);
      expect(offsets).toEqual([...new Set(offsets)].toSorted((a, b) => a - b));
      const seen = new Set(offsets);
      const missing = published.filter(({ position }) => !seen.has(position.offset));
      expect(missing, `${channel} on ${client.welcome.node}`).toEqual([]);
    }
  }
}

function hashSlot(channel: string): number {
  return hashSlotOf(String(slotOf(channel)));
}

test("CLU-1: a slot that moves under load loses nothing, and subscriptions move with it", async () => {
  const clients = await start(0);
  const load = publishOnAll();
  const slot = hashSlot(moving);
  const enough = (count: number): boolean => [...load.acknowledged.values()].every((items) => items.length >= count);
  await eventually(() => enough(5));

  const move = await beginSlotMove(cluster, slot);
  // Moves one key at a time, so that scripts find a channel's keys on two servers.
  const { state } = channelKeys("tidegate", moving);
  await move.moveKeys([state]);
  const before = load.acknowledged.get(moving)?.length ?? 0;
  const untouched = channels.find((channel) => hashSlot(channel) !== slot) ?? "";
  const meanwhile = load.acknowledged.get(untouched)?.length ?? 0;
  await eventually(() => (load.acknowledged.get(untouched)?.length ?? 0) > meanwhile + 5);
  for (let keys = await move.keys(100); keys.length > 0; keys = await move.keys(100)) await move.moveKeys(keys);
  await move.end();
  await eventually(() => (load.acknowledged.get(moving)?.length ?? 0) > before + 5);
  await load.end();
  expect([...load.refused].filter((refusal) => refusal !== "503 broker_unavailable")).toEqual([]);
  await expectAllDelivered(clients, load.acknowledged);

  // Followers are subscribed at the new server: the next publication arrives as a message.
  await eventually(async () => {
    const topics = (await command(move.to, "PUBSUB", "SHARDCHANNELS", `*:channel:${moving}`)) as string[];
    return topics.length === 1;
  });
  for (const client of clients) {
    expect(client.received.filter(({ event }) => event === "sync:resync")).toEqual([]);
  }
});

test("CLU-2: after a failover followers get every acknowledged publication or a resync", async () => {
  const clients = await start(1);
  const load = publishOnAll();
  await eventually(() => [...load.acknowledged.values()].every((items) => items.length >= 5));
  const { owner } = await ownerOf(cluster, hashSlot(moving));
  const [replica] = owner.replicas;
  if (!replica) throw new Error("a shard has a replica");
  await owner.primary.kill();
  await eventually(async () => (await cluster.shards()).some(({ primary }) => primary === replica));
  const before = load.acknowledged.get(moving)?.length ?? 0;
  await eventually(() => (load.acknowledged.get(moving)?.length ?? 0) > before + 5);
  await load.end();
  expect([...load.refused].filter((refusal) => refusal !== "503 broker_unavailable")).toEqual([]);
  for (const client of clients) {
    for (const channel of channels) {
      const last = load.acknowledged.get(channel)?.at(-1)?.position.offset ?? 0;
      const resyncs = (): Resync[] =>
        client.received
          .filter(({ event, data }) => event === "sync:resync" && (data as Resync).channel === channel)
          .map(({ data }) => data as Resync);
      // Continues from the position of the resync, which may already be the last one.
      const reached = (): number =>
        Math.max(receivedOf(client, channel).at(-1)?.offset ?? 0, resyncs().at(-1)?.position.offset ?? 0);
      await eventually(() => reached() >= last);
      const offsets = receivedOf(client, channel).map(({ offset }) => offset);
      const told = resyncs();
      expect(offsets, JSON.stringify({ channel, told })).toEqual([...new Set(offsets)].toSorted((a, b) => a - b));
      const missing =
        load.acknowledged.get(channel)?.filter(({ position }) => !offsets.includes(position.offset)) ?? [];
      expect(missing.length === 0 || told.length === 1, JSON.stringify({ channel, missing, told })).toBe(true);
    }
  }
});

test("PROBE-3: in a cluster a node fails while one primary delivers no messages", async () => {
  const clients = await start(0);
  const { adminDoor } = fleet.gateways[0] ?? {};
  const health = async (): Promise<string> => {
    const ready = await fetch(`http://127.0.0.1:${adminDoor?.port}/readyz`);
    return ((await ready.json()) as { checks: { broker: string } }).checks.broker;
  };
  const publish = async (data: string): Promise<void> => {
    for (const channel of channels) {
      expect((await fleet.api("POST", "/v1/publish", { channel, event: "n", data })).status).toBe(200);
    }
  };
  const all = async (data: string, of: readonly string[]): Promise<void> => {
    for (const client of clients) {
      for (const channel of of) await eventually(() => receivedOf(client, channel).at(-1)?.data === data);
    }
  };
  expect(await health()).toBe("ok");
  const { owner } = await ownerOf(cluster, hashSlot(moving));
  await command(owner.primary, "ACL", "SETUSER", "default", "-ssubscribe");
  await command(owner.primary, "CLIENT", "KILL", "TYPE", "pubsub");
  await eventually(async () => (await health()) === "fail");
  await publish("missed on one");
  await all(
    "missed on one",
    channels.filter((channel) => hashSlot(channel) !== hashSlot(moving)),
  );
  await command(owner.primary, "ACL", "SETUSER", "default", "+ssubscribe");
  await eventually(async () => (await health()) === "ok");
  await all("missed on one", channels);
  await publish("after");
  await all("after", channels);
  for (const client of clients) {
    for (const channel of channels) {
      expect(receivedOf(client, channel).map(({ data }) => data)).toEqual(["missed on one", "after"]);
    }
  }
});

test("RED-8: a cluster without one of its primaries refuses everything, and is used again when it is back", async () => {
  await start(0);
  const publish = async (channel: string): Promise<ApiAnswer> =>
    fleet.api("POST", "/v1/publish", { channel, event: "n", data: 1 });
  const { owner } = await ownerOf(cluster, hashSlot(moving));
  const elsewhere: string[] = [];
  for (const channel of channels) {
    if ((await ownerOf(cluster, hashSlot(channel))).owner.primary !== owner.primary) elsewhere.push(channel);
  }
  await owner.primary.kill();
  // One of the others may take writes for a moment longer.
  for (const server of cluster.servers.filter((server) => server !== owner.primary)) {
    await eventually(async () => String(await command(server, "CLUSTER", "INFO")).includes("cluster_state:fail"));
  }
  await allHave(fleet, "200 degraded");
  await eventually(() => fleet.log().includes("a part of the cluster has no primary"));
  for (const channel of [moving, ...elsewhere]) expectRefused(await publish(channel));
  await owner.primary.restart();
  for (const channel of channels) await eventually(async () => (await publish(channel)).status === 200);
  await allHave(fleet, "200 ok");
});

test("CLU-3: a hanging primary delays only its channels, and refused publishes never appear", async () => {
  const clients = await start(0);
  for (const server of cluster.servers) await command(server, "CONFIG", "SET", "cluster-require-full-coverage", "no");
  const { owner } = await ownerOf(cluster, hashSlot(moving));
  const owned = new Set<string>();
  for (const channel of channels)
    if ((await ownerOf(cluster, hashSlot(channel))).owner.primary === owner.primary) owned.add(channel);
  const elsewhere = channels.find((channel) => !owned.has(channel)) ?? "";
  const publish = async (channel: string, data: string) =>
    fleet.api("POST", "/v1/publish", { channel, event: "n", data });
  owner.primary.signal("SIGSTOP");
  const first = await publish(moving, "unknown");
  expect(first.status).toBe(503);
  for (let n = 0; n < 20; n++) expect((await publish(elsewhere, `${n}`)).status).toBe(200);
  expect((await publish(moving, "refused")).status).toBe(503);
  owner.primary.signal("SIGCONT");
  await eventually(async () => (await publish(moving, "after")).status === 200);
  for (const client of clients) {
    await client.next(({ data }) => data === "after");
    // From another primary.
    await eventually(() => receivedOf(client, elsewhere).length >= 20);
    expect(receivedOf(client, elsewhere)).toHaveLength(20);
    expect(receivedOf(client, moving).map(({ data }) => data)).not.toContain("refused");
  }
});
