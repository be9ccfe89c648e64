/** The suite of every ChannelBroker. Each test uses channels of its own. */
import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type {
  BrokerListener,
  ChannelBroker,
  HistorySlice,
  Publication,
  PublishOutcome,
  PublishRequest,
} from "../../shared/channels/contract.ts";
import { slotOf } from "../../shared/redis/slots.ts";
import { identityKey } from "../../shared/protocol/identity-key.ts";
import { eventually } from "../support/eventually.ts";

const retention = { historySize: 100, historySeconds: 300 };

interface Seen {
  publications: { channel: string; epoch: string; publication: Publication }[];
  ephemerals: { channel: string; event: string; data: string }[];
  users: { user: string; message: unknown }[];
}

/** @param createPair two brokers on one store; in memory the same broker twice. */
export function brokerSuite(name: string, createPair: () => Promise<[ChannelBroker, ChannelBroker]>): void {
  describe(`broker: ${name}`, () => {
    let publisher: ChannelBroker;
    let follower: ChannelBroker;
    const seen: Seen = { publications: [], ephemerals: [], users: [] };

    beforeAll(async () => {
      [publisher, follower] = await createPair();
      follower.listen({
        onPublication: (channel, epoch, publication) => seen.publications.push({ channel, epoch, publication }),
        onEphemeral: (channel, ephemeral) => seen.ephemerals.push({ channel, ...ephemeral }),
        onUserMessage: (user, message) => seen.users.push({ user, message }),
        onRestored: () => undefined,
      } satisfies BrokerListener);
      for (const broker of new Set([publisher, follower])) await broker.start();
    });
    afterAll(async () => {
      for (const broker of new Set([publisher, follower])) await broker.stop();
    });

    function newChannel(): string {
      return `board:${randomUUID()}`;
    }
    async function publish(channel: string, more: Partial<PublishRequest> = {}): Promise<PublishOutcome> {
      return publisher.publish({ channel, event: "moved", data: "{}", retention, ...more });
    }
    async function read(channel: string, more: object = {}): Promise<HistorySlice> {
      return publisher.readHistory({ channel, retention, limit: 1000, maxBytes: 1 << 20, ...more });
    }
    function seenOf(channel: string): Publication[] {
      return seen.publications.filter((item) => item.channel === channel).map((item) => item.publication);
    }

    test("CH-1: offsets of a channel are 1, 2, 3 and keep its epoch", async () => {
      const channel = newChannel();
      const outcomes = [await publish(channel), await publish(channel), await publish(channel)];
      const positions = outcomes.map((outcome) => outcome.position);
      expect(positions.map((position) => position.offset)).toEqual([1, 2, 3]);
      expect(new Set(positions.map((position) => position.epoch)).size).toBe(1);
    });

    test("CH-2: a channel without publications has offset 0 and a stable epoch", async () => {
      const channel = newChannel();
      const before = await read(channel);
      expect(before).toMatchObject({ position: { offset: 0 }, publications: [], more: false });
      const { position } = await publish(channel);
      expect(position).toEqual({ epoch: before.position.epoch, offset: 1 });
    });

    test("history returns event and data in order, after an offset", async () => {
      const channel = newChannel();
      for (const word of ["one", "two", "drei ✓"]) {
        await publish(channel, { event: `said.${word.length}`, data: JSON.stringify({ word }) });
      }
      const slice = await read(channel, { after: 1 });
      expect(slice.publications).toEqual([
        { offset: 2, prev: 1, event: "said.3", data: '{"word":"two"}' },
        { offset: 3, prev: 2, event: "said.6", data: '{"word":"drei ✓"}' },
      ]);
      expect(slice.position.offset).toBe(3);
    });

    test("history keeps the newest historySize publications", async () => {
      const channel = newChannel();
      for (let i = 0; i < 7; i++) await publish(channel, { retention: { historySize: 3, historySeconds: 60 } });
      const slice = await read(channel);
      expect(slice.publications.map((publication) => publication.offset)).toEqual([5, 6, 7]);
    });

    test("a namespace without history still counts offsets", async () => {
      const channel = newChannel();
      for (let i = 0; i < 2; i++) await publish(channel, { retention: { historySize: 0, historySeconds: 60 } });
      expect(await read(channel)).toMatchObject({ position: { offset: 2 }, publications: [] });
    });

    test("a history read stops at its limits and reports that there is more", async () => {
      const channel = newChannel();
      for (let i = 0; i < 150; i++)
        await publish(channel, {
          data: JSON.stringify("x".repeat(98)),
          retention: { historySize: 200, historySeconds: 60 },
        });
      const limited = await read(channel, { after: 0, limit: 70 });
      expect([limited.publications.length, limited.publications.at(-1)?.offset, limited.more]).toEqual([70, 70, true]);
      const bounded = await read(channel, { after: 0, maxBytes: 10_000 });
      expect([bounded.publications.length, bounded.more]).toEqual([100, true]);
      const tooLarge = await read(channel, { after: 149, maxBytes: 1 });
      expect([tooLarge.publications.length, tooLarge.more]).toEqual([1, false]);
    });

    test("a read of the newest publications is in offset order and reports omitted older ones", async () => {
      const channel = newChannel();
      const data = JSON.stringify("x".repeat(98));
      for (let i = 0; i < 150; i++)
        await publish(channel, { data, retention: { historySize: 140, historySeconds: 60 } });
      const offsets = ({ publications }: HistorySlice): number[] => publications.map(({ offset }) => offset);
      const upTo150 = (from: number): number[] => Array.from({ length: 151 - from }, (_, i) => from + i);
      const limited = await read(channel, { newest: true, limit: 70 });
      expect([offsets(limited), limited.more]).toEqual([upTo150(81), true]);
      const bounded = await read(channel, { newest: true, maxBytes: 10_000 });
      expect([offsets(bounded), bounded.more]).toEqual([upTo150(51), true]);
      const all = await read(channel, { newest: true });
      expect([offsets(all), all.more]).toEqual([upTo150(11), false]);
      const after = await read(channel, { newest: true, after: 100, limit: 50 });
      expect([offsets(after), after.more]).toEqual([upTo150(101), false]);
    });

    test("a history read reports when the history expires", async () => {
      const channel = newChannel();
      expect((await read(channel)).keptForMs).toBeUndefined();
      await publish(channel, { retention: { historySize: 3, historySeconds: 60 } });
      const { keptForMs = 0 } = await read(channel);
      expect(keptForMs).toBeGreaterThan(0);
      expect(keptForMs).toBeLessThanOrEqual(60_000);
    });

    test("a history read with another epoch returns no publications", async () => {
      const channel = newChannel();
      const { position } = await publish(channel);
      expect(await read(channel, { epoch: "other", after: 0 })).toEqual({ position, publications: [], more: false });
    });

    test("CH-5: a repeated id answers like the first and stores nothing", async () => {
      const channel = newChannel();
      const first = await publish(channel, { id: "a" });
      await publish(channel, { id: "b" });
      expect(await publish(channel, { id: "a" })).toEqual({ ...first, duplicate: true });
      expect((await read(channel)).position.offset).toBe(2);
    });

    test("SQL-4: a mark that is not above the stored one publishes nothing", async () => {
      const channel = newChannel();
      const name = `crm/${randomUUID()}`;
      const [first, second, third] = ["0001", "0002", "0010"] as const;
      const marked = async (at: string, before: string): Promise<PublishOutcome> =>
        publish(channel, { mark: { name, at, before } });
      expect(await marked(first, "")).toMatchObject({ duplicate: false, position: { offset: 1 } });
      expect(await marked(second, first)).toMatchObject({ duplicate: false, position: { offset: 2 } });
      expect(await marked(first, "")).toMatchObject({ duplicate: true, position: { offset: 2 } });
      expect(await marked(second, first)).toMatchObject({ duplicate: true, position: { offset: 2 } });
      expect(await marked(third, second)).toMatchObject({ duplicate: false, position: { offset: 3 } });
    });

    test("SQL-4: a publication waits for the marked one before it", async () => {
      const channel = newChannel();
      const name = `crm/${randomUUID()}`;
      const early = publish(channel, { mark: { name, at: "0002", before: "0001" } });
      await expect(early).rejects.toMatchObject({ code: "broker_unavailable" });
      expect(await publish(channel, { mark: { name, at: "0001", before: "" } })).toMatchObject({ duplicate: false });
      const again = await publish(channel, { mark: { name, at: "0002", before: "0001" } });
      expect(again).toMatchObject({ duplicate: false, position: { offset: 2 } });
    });

    test("BRI-8: an ephemeral item whose mark is not above the stored one reaches nobody", async () => {
      const channel = newChannel();
      await follower.follow({ kind: "channel", name: channel });
      const name = `bridge:${randomUUID()}:volatile`;
      const outcomes: boolean[] = [];
      for (const at of ["0002", "0002", "0001", "0010"]) {
        const item = { channel, event: "typing", data: `"${at}"`, mark: { name, at } };
        outcomes.push((await publisher.publishEphemeral(item)).duplicate);
      }
      expect(outcomes).toEqual([false, true, true, false]);
      await publish(channel);
      await eventually(() => seenOf(channel).length === 1);
      const received = seen.ephemerals.filter((item) => item.channel === channel);
      expect(received.map(({ data }) => data)).toEqual(['"0002"', '"0010"']);
    });

    test("KEY-1: an id belongs to its channel, wherever the two contain colons", async () => {
      const name =
        Array.from({ length: 10_000 }, newChannel).find((own) => slotOf(own) === slotOf(`${own}:line`)) ?? "";
      const outcomes = [await publish(name, { id: "line:1" }), await publish(`${name}:line`, { id: "1" })];
      expect(outcomes).toMatchObject([{ duplicate: false }, { duplicate: false }]);
      expect((await read(`${name}:line`)).publications).toHaveLength(1);
      const ephemerals = [
        await publisher.publishEphemeral({ channel: name, event: "typing", data: "1", id: "line:1" }),
        await publisher.publishEphemeral({ channel: `${name}:line`, event: "typing", data: "1", id: "1" }),
      ];
      expect(ephemerals).toEqual([{ duplicate: false }, { duplicate: false }]);
    });

    test("CH-6: a publish with expect succeeds only at exactly that position", async () => {
      const channel = newChannel();
      const { position } = await publish(channel);
      const outcomes = await Promise.all([
        publish(channel, { expect: position }),
        publish(channel, { expect: position }),
      ]);
      expect(outcomes.map((outcome) => outcome.kind).sort()).toEqual(["conflict", "published"]);
      const stale = await publish(channel, { expect: { ...position, epoch: "other" } });
      expect(stale).toEqual({ kind: "conflict", position: { epoch: position.epoch, offset: 2 } });
    });

    test("CH-3: a follower sees every publication once and in order, from 20 publishers at once", async () => {
      const channel = newChannel();
      await follower.follow({ kind: "channel", name: channel });
      await Promise.all(
        Array.from({ length: 20 }, async (_, who) => {
          for (let i = 0; i < 10; i++) await publish(channel, { data: JSON.stringify({ who, i }) });
        }),
      );
      await eventually(() => seenOf(channel).length >= 200);
      expect(seenOf(channel).map((publication) => publication.offset)).toEqual(
        Array.from({ length: 200 }, (_, i) => i + 1),
      );
      const stored = await read(channel, { limit: 1000 });
      expect(stored.publications).toEqual(seenOf(channel).slice(-100));
    });

    test("CH-4: an ephemeral item reaches followers and gets no offset", async () => {
      const channel = newChannel();
      await follower.follow({ kind: "channel", name: channel });
      const ephemeral = { channel, event: "cursor", data: '{"x":1}' };
      expect(await publisher.publishEphemeral(ephemeral)).toEqual({ duplicate: false });
      expect(await publisher.publishEphemeral({ ...ephemeral, id: "c" })).toEqual({ duplicate: false });
      expect(await publisher.publishEphemeral({ ...ephemeral, id: "c" })).toEqual({ duplicate: true });
      await publish(channel);
      await eventually(() => seenOf(channel).length === 1);
      expect(seen.ephemerals.filter((item) => item.channel === channel)).toEqual([ephemeral, ephemeral]);
      expect(seenOf(channel)[0]?.offset).toBe(1);
    });

    test("CH-8: channels of many slots can be published to and read concurrently", async () => {
      const channels = Array.from({ length: 40 }, newChannel);
      const outcomes = await Promise.all([
        ...channels.map((channel) => publish(channel)),
        ...channels.map((channel) => publish(channel, { id: "once" })),
        ...channels.map((channel) => publisher.publishEphemeral({ channel, event: "e", data: "1", id: "x" })),
      ]);
      expect(outcomes).toHaveLength(120);
      const slices = await Promise.all(channels.map((channel) => read(channel, { after: 0 })));
      expect(slices.map((slice) => slice.publications.length)).toEqual(channels.map(() => 2));
    });

    test("listeners receive nothing before a follow or after an unfollow", async () => {
      const [left, never, other] = [newChannel(), newChannel(), newChannel()];
      await follower.follow({ kind: "channel", name: left });
      await follower.unfollow({ kind: "channel", name: left });
      await follower.follow({ kind: "channel", name: other });
      for (const channel of [left, never, other]) await publish(channel);
      await eventually(() => seenOf(other).length === 1);
      expect([seenOf(left).length, seenOf(never).length]).toEqual([0, 0]);
    });

    test("a message to a user reaches the followers of that user", async () => {
      const user = identityKey({ user: `ada}{ ${randomUUID()}` });
      await follower.follow({ kind: "user", name: user });
      const message = { kind: "send", event: "note", data: '{"a":"\\n"}' } as const;
      await publisher.sendToUser(user, message);
      await publisher.sendToUser(identityKey({ user: "nobody" }), message);
      await publisher.sendToUser(user, { kind: "disconnect", reason: "bye", reconnect: false });
      await eventually(() => seen.users.length === 2);
      expect(seen.users).toEqual([
        { user, message },
        { user, message: { kind: "disconnect", reason: "bye", reconnect: false } },
      ]);
    });

    test("TEN-1: a message to a user reaches only followers of the user in that tenant", async () => {
      seen.users.length = 0;
      const user = `ada ${randomUUID()}`;
      // Most of these pairs would collide if tenant and name were joined by a colon.
      const keys = [
        { user },
        { user, tenant: "t" },
        { user, tenant: "t:a" },
        { user: `a:${user}`, tenant: "t" },
        { user: `t:a:${user}` },
      ].map(identityKey);
      const message = { kind: "send", event: "note", data: "1" } as const;
      for (const followed of keys) {
        await follower.follow({ kind: "user", name: followed });
        for (const key of keys) await publisher.sendToUser(key, message);
        await eventually(() => seen.users.some((item) => item.user === followed));
        await follower.unfollow({ kind: "user", name: followed });
      }
      expect(seen.users).toEqual(keys.map((key) => ({ user: key, message })));
    });
  });
}
