/** Names built from different parts differ. */
import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { expect, test } from "vitest";
import { ephemeralFrame, publicationFrame } from "../../gateway/outbox/frames.ts";
import { MemoryBroker } from "../../shared/channels/memory.ts";
import { channelKeys, idempotencyKey, parseTopicName, topicName } from "../../shared/channels/keys.ts";
import { eventId } from "../../shared/services/cloudevents.ts";
import { type IdentityKey, identityKey } from "../../shared/protocol/identity-key.ts";
import {
  laneText,
  paddedNumber,
  parseDeadLetter,
  parseLane,
  parseContent,
  parseLease,
  parseQueue,
  queueText,
} from "../../shared/queues/keys.ts";
import { formatHead, parseHead } from "../../shared/queues/item-head.ts";
import { defaultPrefix, nameRoot, prefixPattern } from "../../shared/redis/name-root.ts";
import {
  endedKey,
  formatHolding,
  type Holding,
  holdingsKey,
  leaseKeys,
  parseHolding,
  presenceKeys,
  revocationName,
  userKeys,
} from "../../shared/sessions/keys.ts";
import type { Revocation } from "../../shared/sessions/contract.ts";
import { quietErrors } from "../support/logger.ts";

const runs = { numRuns: 20_000 };
const retention = { historySize: 1, historySeconds: 300 };

/** Few and similar, so that separators within parts can cause collisions. */
function joined(pieces: readonly string[], maxLength = 3): fc.Arbitrary<string> {
  return fc.array(fc.constantFrom(...pieces), { minLength: 1, maxLength }).map((parts) => parts.join(""));
}
const channel = joined(["a", ":", "1"]).map((rest) => `b:${rest}`);
const anyText = fc.oneof(
  { weight: 3, arbitrary: joined(["a", ":", "1"]) },
  joined(["a", ":", " ", "%", "3A", "{", "}", "\n", "\u0000", "\u001f", "ä", "🚀", "b:a"]),
  fc.string({ unit: "binary", minLength: 1, maxLength: 20 }),
);
const user = fc.record({ user: anyText, tenant: fc.option(anyText, { nil: undefined }) }).map(identityKey);
const event = joined(["a", ".", ":", "1", "ephemeral"]).map((rest) => `e${rest}`);
/** Ids as gateways choose them; few, so that they collide. */
const uuid = fc.constantFrom(...Array.from({ length: 4 }, () => randomUUID()));

/** Roots of deployments that share a Redis. */
const deployment = fc.record({ prefix: fc.constantFrom("a", "a:", "a:1"), database: fc.nat(1) });

/** Every kind of name in Redis, with its parts. */
const names: fc.Arbitrary<Name>[] = [
  named(channel, (root, of) => channelKeys(root, of).state),
  named(channel, (root, of) => channelKeys(root, of).history),
  named(fc.tuple(channel, anyText), (root, of) => idempotencyKey(root, "publication", ...of)),
  named(fc.tuple(channel, anyText), (root, of) => idempotencyKey(root, "ephemeral", ...of)),
  named(channel, (root, of) => topicName(root, { kind: "channel", name: of })),
  named(user, (root, of) => topicName(root, { kind: "user", name: of })),
  named(user, (root, of) => userKeys(root, of).sessions),
  named(user, (root, of) => userKeys(root, of).revoked),
  named(fc.tuple(user, uuid), (root, of) => endedKey(root, ...of)),
  named(channel, (root, of) => presenceKeys(root, of).sessions),
  named(channel, (root, of) => presenceKeys(root, of).users),
  named(uuid, (root, of) => holdingsKey(root, 7, of)),
  named(fc.constantFrom("leases" as const, "toSweep" as const, "passes" as const), (root, of) => leaseKeys(root)[of]),
];

interface Name {
  text: string;
  parts: string;
}

/** Names of different kinds count as different parts. */
function named<Parts>(of: fc.Arbitrary<Parts>, nameOf: (root: string, parts: Parts) => string): fc.Arbitrary<Name> {
  const kind = randomUUID();
  return fc.tuple(deployment, of).map(([on, parts]) => {
    return { text: nameOf(nameRoot(on.prefix, on.database), parts), parts: JSON.stringify([kind, on, parts]) };
  });
}

const name = fc.oneof(...names);
/** Pairs of names, of one kind and of any kinds. */
const pair = fc.oneof(...names.map((kind) => fc.tuple(kind, kind)), fc.tuple(name, name));

/** Compares bytes, like Redis. One slot is enough. */
function withoutTag({ text }: Name): string {
  return Buffer.from(text.replace(/\{\d+\}/, "{}")).toString("hex");
}

test("KEY-1: names in Redis differ whenever their parts differ", () => {
  fc.assert(
    fc.property(pair, ([one, other]) => {
      expect(withoutTag(one) === withoutTag(other)).toBe(one.parts === other.parts);
    }),
    { numRuns: 100_000 },
  );
});

test("KEY-2: deployments with another database or prefix have distinct names", () => {
  const on = fc.record({ prefix: fc.stringMatching(prefixPattern), database: fc.nat(20) });
  const like = fc.record({ prefix: joined(["a", ":", "1", "/", "."]), database: fc.nat(20) });
  fc.assert(
    fc.property(fc.oneof(on, like), fc.oneof(on, like), (one, other) => {
      const [first, second] = [one, other].map(({ prefix, database }) => `${nameRoot(prefix, database)}:{`);
      expect(first?.startsWith(second ?? "")).toBe(JSON.stringify(one) === JSON.stringify(other));
      // The hash tag must be the first braces in a name.
      expect(first?.indexOf("{")).toBe((first?.length ?? 0) - 1);
    }),
    runs,
  );
  expect(nameRoot(defaultPrefix, 0)).toBe("tidegate");
});

/** One text, split into channel and id at two positions. */
const cutTwice = fc
  .tuple(fc.array(fc.constantFrom("a", "b", "3A"), { minLength: 3, maxLength: 6 }), fc.nat(), fc.nat())
  .map(([pieces, ...places]) =>
    places.map((place) => {
      const cut = 1 + (place % (pieces.length - 1));
      return { channel: `b:${pieces.slice(0, cut).join(":")}`, id: pieces.slice(cut).join(":") };
    }),
  );

test("KEY-1: ids and channels with a shared boundary have distinct keys", () => {
  fc.assert(
    fc.property(cutTwice, (items) => {
      const keys = items.map(({ channel: of, id }) =>
        idempotencyKey("tidegate", "publication", of, id).replace(/\d+/, ""),
      );
      expect(new Set(keys).size).toBe(new Set(items.map(({ id }) => id)).size);
    }),
    runs,
  );
  // Ids without colon or percent sign keep the keys of stored data.
  expect(idempotencyKey("tidegate", "publication", "board:1", "move 7")).toBe(
    "tidegate:{245}:id:publication:board:1:move 7",
  );
});

test("KEY-1: topic names parse back to their topics", () => {
  fc.assert(
    fc.property(deployment, channel, user, (on, ofChannel, ofUser) => {
      const root = nameRoot(on.prefix, on.database);
      for (const topic of [
        { kind: "channel", name: ofChannel },
        { kind: "user", name: ofUser },
      ] as const) {
        expect(parseTopicName(root, topicName(root, topic))).toEqual(topic);
        expect(parseTopicName(`${root}:1`, topicName(root, topic))).toBeUndefined();
      }
    }),
    runs,
  );
});

const holding: fc.Arbitrary<Holding> = fc.oneof(
  fc.record({ kind: fc.constant("session" as const), sessionId: uuid, user }),
  fc.record({ kind: fc.constant("membership" as const), sessionId: uuid, channel, user }),
);

test("KEY-1: holdings parse back to what was written", () => {
  fc.assert(
    fc.property(holding, (held) => {
      expect(parseHolding(formatHolding(held))).toEqual(held);
    }),
    runs,
  );
});

const revocation: fc.Arbitrary<Revocation> = fc.oneof(
  fc.constant({ kind: "user" as const }),
  fc.record({ kind: fc.constant("session" as const), sessionId: anyText }),
  fc.record({ kind: fc.constant("grant" as const), channel }),
);

test("KEY-1: queues and lanes parse back to what was written", () => {
  const service = joined(["a", "-", "1"]);
  const tenant = fc.option(anyText, { nil: "" });
  fc.assert(
    fc.property(service, tenant, anyText, (service, tenant, key) => {
      fc.pre([tenant, key].every((text) => text.isWellFormed()));
      const queue = { service, tenant, key };
      expect(parseQueue(queueText(queue))).toEqual(queue);
      const lane = { class: "a", service, attempt: "retry" as const, tenant };
      expect(parseLane(1, laneText(lane))).toEqual({ slot: 1, ...lane });
      const content = parseContent("{}\n1\n2");
      const lease = parseLease({ slot: 1, ...lane }, `12 a 3 6 s b 4 5 ${queueText(queue)}`, content);
      const first = { sequence: paddedNumber(6), class: "a", source: "s", head: "{}", data: "1\n2" };
      expect(lease).toMatchObject({ attempts: 4, previous: paddedNumber(5), lease: { queue, items: 3 }, first });
      expect(lease.lease.fence).toBe(paddedNumber(12));
    }),
    runs,
  );
});

test("KEY-1: heads of items parse back to what was written, also of several events of one session", () => {
  const identity = { user: "u 1", sessionId: "s", claims: { role: "a b" } };
  const about = fc.record({
    ...{ id: anyText, event: anyText, source: anyText, path: anyText, at: fc.nat() },
    traceparent: fc.constant("00-1-2-01"),
  });
  fc.assert(
    fc.property(fc.array(about), (abouts) => {
      fc.pre(abouts.every(({ id }) => id.isWellFormed()));
      const heads = abouts.map((each) => formatHead(each, identity));
      expect(heads.map(parseHead)).toEqual(abouts.map((each) => ({ ...each, ...identity })));
      expect(heads.every((head) => !/[\r\n]/.test(head))).toBe(true);
    }),
    { numRuns: 2_000 },
  );
  expect(parseHead("{}")).toBeUndefined();
  expect(parseHead("1 2 3 {}")).toBeUndefined();
});

test("KEY-1: a name with a broken escape, which nobody has written, is read as it is", () => {
  expect(parseQueue("a:%:%zz")).toEqual({ service: "a", tenant: "%", key: "%zz" });
  expect(parseLane(1, "a:b:f:%f0%")).toMatchObject({ tenant: "%f0%" });
  expect(parseLease(parseLane(1, "a:b:f:"), "1 a 1 1   0 0 b::%", parseContent("{}\n1")).lease.queue.key).toBe("%");
  expect(parseDeadLetter(1, "7 b:%:c\n{}\n1 a\n{}\n{}").queue.tenant).toBe("%");
});

test("KEY-1: different revocations of a user have different names", () => {
  fc.assert(
    fc.property(revocation, revocation, (one, other) => {
      const isSame = JSON.stringify(one) === JSON.stringify(other);
      expect(revocationName(one) === revocationName(other)).toBe(isSame);
    }),
    runs,
  );
});

test("KEY-1: repeats of a call are recognised by user and id", () => {
  fc.assert(
    fc.property(fc.tuple(user, anyText), fc.tuple(user, anyText), (one, other) => {
      expect(eventId(...one) === eventId(...other)).toBe(JSON.stringify(one) === JSON.stringify(other));
    }),
    runs,
  );
});

const conflated = fc.record({ channel, event, isEphemeral: fc.boolean() });

function conflationKey({
  channel: of,
  event: name,
  isEphemeral,
}: {
  channel: string;
  event: string;
  isEphemeral: boolean;
}) {
  const item = { event: name, data: "1" };
  const frame = isEphemeral
    ? ephemeralFrame(of, item, true)
    : publicationFrame(of, { ...item, offset: 1, prev: 0 }, true);
  return frame.conflationKey;
}

test("KEY-1: a frame replaces only frames of its channel, event and kind", () => {
  fc.assert(
    fc.property(conflated, conflated, (one, other) => {
      const isSame = JSON.stringify(one) === JSON.stringify(other);
      expect(conflationKey(one) === conflationKey(other)).toBe(isSame);
    }),
    runs,
  );
});

test("KEY-1: in memory a repeat has the same channel, id and kind", async () => {
  const item = fc.record({ channel, id: anyText, isEphemeral: fc.boolean() });
  await fc.assert(
    fc.asyncProperty(item, item, async (one, other) => {
      const broker = new MemoryBroker(quietErrors);
      const isRepeat = async ({ isEphemeral, ...of }: { channel: string; id: string; isEphemeral: boolean }) => {
        const request = { ...of, event: "moved", data: "1", retention };
        return isEphemeral
          ? (await broker.publishEphemeral(request)).duplicate
          : ((await broker.publish(request)) as { duplicate: boolean }).duplicate;
      };
      expect(await isRepeat(one)).toBe(false);
      expect(await isRepeat(other)).toBe(JSON.stringify(one) === JSON.stringify(other));
    }),
    { numRuns: 5_000 },
  );
});

test("KEY-1: in memory a message reaches its own topic only", async () => {
  await fc.assert(
    fc.asyncProperty(user, fc.oneof(user, channel), async (one, other) => {
      const broker = new MemoryBroker(quietErrors);
      const seen: IdentityKey[] = [];
      broker.listen({
        onPublication: () => undefined,
        onEphemeral: () => undefined,
        onUserMessage: (to) => seen.push(to),
        onRestored: () => undefined,
      });
      await broker.follow({ kind: "channel", name: other });
      await broker.sendToUser(one, { kind: "send", event: "note", data: "1" });
      expect(seen).toEqual([]);
      await broker.follow({ kind: "user", name: other as IdentityKey });
      await broker.sendToUser(one, { kind: "send", event: "note", data: "1" });
      expect(seen).toEqual((one as string) === other ? [one] : []);
    }),
    { numRuns: 5_000 },
  );
});
