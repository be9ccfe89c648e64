import { expect, test } from "vitest";
import { Incoming, type IncomingOptions } from "../../private-api/bridges/incoming.ts";
import { marksOf } from "../../private-api/bridges/marks.ts";
import { LeaseEnded } from "../../private-api/leases/lease-ended.ts";
import { createPrivateApiMetrics } from "../../private-api/metrics/metrics.ts";
import { MemoryBroker } from "../../shared/channels/memory.ts";
import { noRules, Rules } from "../../shared/rules/rules.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import { Metrics } from "../../shared/runtime/metrics.ts";
import { eventually } from "../support/eventually.ts";
import { quietErrors } from "../support/logger.ts";

const emit = { channel: "board:1", event: "note", data: "1", bytes: 1, isVolatile: false };

/** A bridge whose broker keeps what it stores; `refuse` says whether the next publish fails. */
function begin(
  refuse: () => boolean,
  change: Partial<IncomingOptions> = {},
): {
  incoming: Incoming;
  stored: string[];
  /** By outcome, and "trouble". */
  counts: Map<string, number>;
  lease: { isHeld: boolean };
} {
  const lease = { isHeld: true };
  const stored: string[] = [];
  const known = new Set<string>();
  const counts = new Map<string, number>();
  const count = (outcome: string): unknown => counts.set(outcome, (counts.get(outcome) ?? 0) + 1);
  const options: IncomingOptions = {
    broker: {
      publish: async ({ data, mark }) => {
        const isStored = known.has(data);
        if (!isStored && refuse()) throw new TidegateError("broker_unavailable", `refused ${mark?.at}`);
        if (!isStored) stored.push(data);
        known.add(data);
        return { kind: "published", position: { epoch: "e", offset: stored.length }, duplicate: isStored };
      },
      publishEphemeral: async ({ data }) => {
        stored.push(data);
        return { duplicate: false };
      },
    },
    rules: { rules: noRules },
    metrics: createPrivateApiMetrics(new Metrics()),
    changeBudget: { retention: () => ({ maxBytes: 1, maxSeconds: 1, unclaimedSeconds: 1 }) },
    ...{ identity: "identity", fleetId: "fleet" },
    checkLease: () => {
      if (!lease.isHeld) throw new LeaseEnded();
    },
    count,
    onDone: () => undefined,
    onTrouble: (message) => message !== undefined && count("trouble"),
    ...change,
  };
  return { incoming: new Incoming(options), stored, counts, lease };
}

test("BRI-12: emits wait while the message store is away, up to a bound, and what comes after is counted", async () => {
  let isAway = true;
  const { incoming, stored, counts } = begin(() => isAway);
  for (let n = 0; n < 20_010; n++) {
    incoming.add({ emits: [{ ...emit, data: String(n) }], marks: [String(n)], offset: undefined });
  }
  expect(counts.get("dropped")).toBe(10);
  const running = incoming.run();
  isAway = false;
  await eventually(() => stored.length === 20_000);
  incoming.stop();
  await running;
  expect(stored.at(-1)).toBe("19999");
  expect(counts.get("published")).toBe(20_000);
});

test("BRI-12: the bound counts publications, not messages, and a batch is bounded, too", async () => {
  const { incoming, stored, counts } = begin(() => false);
  for (let n = 0; n < 210; n++) {
    const emits = Array.from({ length: 100 }, (_, room) => ({ ...emit, data: `${n} ${room}` }));
    incoming.add({ emits, marks: emits.map((_, index) => String(index)), offset: undefined });
  }
  expect(counts.get("dropped")).toBe(1_000);
  const running = incoming.run();
  expect(stored).toHaveLength(300);
  incoming.stop();
  await running;
  expect(stored).toHaveLength(20_000);
});

test("BRI-12: entries of a stream are not dropped: the stream is read on once there is room", async () => {
  let isAway = true;
  const { incoming, stored, counts } = begin(() => isAway);
  let hasRoom = false;
  for (let n = 0; n < 20_001; n++) {
    incoming.add({ emits: [{ ...emit, data: String(n) }], marks: [String(n)], offset: `1-${n}` });
  }
  const reading = incoming.room().then(() => (hasRoom = true));
  const running = incoming.run();
  await eventually(() => counts.get("trouble") !== undefined);
  expect(hasRoom).toBe(false);
  isAway = false;
  await reading;
  incoming.stop();
  await running;
  expect(stored).toHaveLength(20_001);
  expect(counts.get("dropped")).toBeUndefined();
});

test("BRI-12: what waits is published after the end of the session, too, while the lease holds", async () => {
  let isAway = true;
  const { incoming, stored, counts } = begin(() => isAway);
  incoming.add({ emits: [emit], marks: ["1"], offset: undefined });
  const running = incoming.run();
  incoming.stop();
  await eventually(() => (counts.get("trouble") ?? 0) > 1);
  isAway = false;
  await running;
  expect([stored, counts.get("dropped")]).toEqual([["1"], undefined]);
});

test("BRI-8: what a stream still has does not count as dropped where the lease ends", async () => {
  const { incoming, counts, lease } = begin(() => true);
  incoming.add({ emits: [emit], marks: ["1"], offset: "1-1" });
  incoming.add({ emits: [emit, emit], marks: ["2", "3"], offset: undefined });
  lease.isHeld = false;
  await expect(incoming.run()).rejects.toThrow(LeaseEnded);
  expect(counts.get("dropped")).toBe(2);
});

test("BRI-7: a volatile emit beside one that must be repeated is sent once", async () => {
  let failures = 2;
  const { incoming, stored } = begin(() => failures-- > 0);
  const emits = [
    { ...emit, data: "kept" },
    { ...emit, data: "volatile", isVolatile: true },
  ];
  incoming.add({ emits, marks: ["1", "2"], offset: undefined });
  const running = incoming.run();
  await eventually(() => stored.includes("kept"));
  incoming.stop();
  await running;
  expect(stored).toEqual(["volatile", "kept"]);
});

test("BRI-8: marks grow with the lease, or with the stream, and are texts of one length", () => {
  let number = 0;
  const mark = (offset: string | undefined, fence = 1): string =>
    marksOf({ emits: [emit], offset, lease: { fence }, nextNumber: () => ++number }).join("");
  const [first, second, later] = [mark(undefined), mark(undefined), mark(undefined, 2)];
  expect([first, second, later].toSorted((one, other) => (one < other ? -1 : 1))).toEqual([first, second, later]);
  const [old, young, other] = [mark("1700000000000-9"), mark("1700000000000-10"), mark("1700000000001-0")];
  expect([old < young, young < other, mark("1700000000000-9", 7) === old]).toEqual([true, true, true]);
  expect(new Set([first, later, old, other].map(({ length }) => length)).size).toBe(1);
});

test("BRI-8: what a bridge reads again counts as duplicate, and offsets of another fleet are no repeats", async () => {
  const broker = new MemoryBroker(quietErrors);
  /** @returns the outcomes of emits at these offsets, two at each, in a bridge that takes over. */
  const read = async (fleetId: string, offsets: readonly string[]): Promise<object> => {
    const { incoming, counts } = begin(() => false, { broker, fleetId });
    for (const offset of offsets) {
      const emits = [{ ...emit, isVolatile: true }, { ...emit }];
      incoming.add({ emits, marks: marksOf({ emits, offset, lease: { fence: 1 }, nextNumber: () => 0 }), offset });
    }
    incoming.stop();
    await incoming.run();
    return Object.fromEntries(counts);
  };
  expect(await read("one", ["2-0"])).toEqual({ ephemeral: 1, published: 1 });
  expect(await read("one", ["2-0", "3-0"])).toEqual({ duplicate: 2, ephemeral: 1, published: 1 });
  expect(await read("other", ["1-0"])).toEqual({ ephemeral: 1, published: 1 });
});

test("BRI-8: an emit that is published again because another one failed counts once, as published", async () => {
  let calls = 0;
  const { incoming, stored, counts } = begin(() => ++calls === 2);
  incoming.add({ emits: [{ ...emit, data: "one" }], marks: ["1"], offset: "1-1" });
  incoming.add({ emits: [{ ...emit, data: "two" }], marks: ["2"], offset: "1-2" });
  incoming.stop();
  await incoming.run();
  expect([stored, counts.get("published"), counts.get("duplicate")]).toEqual([["one", "two"], 2, undefined]);
});

test("RULE-12: with strictNamespaces an emit is not published to a namespace that the rules do not list", async () => {
  const rules = { rules: new Rules(1, { strictNamespaces: true, namespaces: { board: {} } }) };
  const { incoming, stored, counts } = begin(() => false, { rules });
  const emits = [
    { ...emit, channel: "bored:1", data: "misspelt" },
    { ...emit, channel: "bored:1", data: "misspelt", isVolatile: true },
    { ...emit, data: "listed" },
  ];
  incoming.add({ emits, marks: ["1", "2", "3"], offset: undefined });
  incoming.stop();
  await incoming.run();
  expect([stored, Object.fromEntries(counts)]).toEqual([["listed"], { unlisted: 2, published: 1 }]);
});
