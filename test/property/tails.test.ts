/** The tail against a model of history: whatever it answers is what a read of history would. */
import fc from "fast-check";
import { expect, test } from "vitest";
import type { HistorySlice } from "../../shared/channels/contract.ts";
import { maxReplayBytes, maxReplayPublications } from "../../shared/protocol/limits.ts";
import { type Bridge, bridgeFromReading, type Reading } from "../../gateway/channels/recovery.ts";
import { Tails } from "../../gateway/channels/tails.ts";
import { ModelHistory } from "../support/model-history.ts";

const channel = "board:1";

function read(history: ModelHistory, reading: Reading): HistorySlice {
  return history.read({
    ...(reading.kind === "after" ? { after: reading.offset } : { newest: true }),
    limit: maxReplayPublications,
    maxBytes: maxReplayBytes,
  });
}

/** What a client would be told by a read of its own. */
function toldByHistory(history: ModelHistory, offset: number): Bridge | undefined {
  const reading = { kind: "after", offset } as const;
  return bridgeFromReading({ epoch: history.epoch, offset }, read(history, reading), reading);
}

const steps = fc.array(
  fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({
        kind: fc.constant("publish" as const),
        count: fc.integer({ min: 1, max: 5 }),
        step: fc.constantFrom(1, 1, 1, 1_000),
        bytes: fc.constantFrom(1, 1, 60_000),
      }),
    },
    {
      weight: 1,
      arbitrary: fc.record({
        kind: fc.constant("publish" as const),
        count: fc.constantFrom(300, 900),
        step: fc.constant(1),
        bytes: fc.constantFrom(1, 700),
      }),
    },
    {
      weight: 1,
      arbitrary: fc.record({ kind: fc.constant("wait" as const), seconds: fc.integer({ min: 1, max: 12 }) }),
    },
    { weight: 6, arbitrary: fc.record({ kind: fc.constant("return" as const), seed: fc.nat() }) },
    { weight: 1, arbitrary: fc.constant({ kind: "evict" as const }) },
  ),
  { maxLength: 40 },
);

test("REC-3: an answer from the tail is what a read of history would give, through jumps, trimming, expiry and eviction", () => {
  fc.assert(
    fc.property(fc.constantFrom(0, 3, 20, 2_000), fc.nat({ max: 20 }), steps, (historySize, before, plan) => {
      const retention = { historySize, historySeconds: 10 };
      const history = new ModelHistory(retention);
      const tails = new Tails();
      for (let i = 0; i < before; i++) history.publish();
      const given = [0, history.position.offset];
      for (const step of plan) {
        if (step.kind === "wait") history.now += step.seconds * 1_000;
        else if (step.kind === "evict") tails.drop(channel);
        else if (step.kind === "publish") {
          for (let i = 0; i < step.count; i++) {
            const publication = history.publish(step.step, step.bytes);
            tails.append(channel, history.epoch, publication, retention, history.now);
            given.push(publication.offset);
          }
        } else {
          // Near an offset that was given: it, or inside a jump before it.
          const offset = Math.max(0, (given[step.seed % given.length] ?? 0) - (step.seed % 7 === 0 ? 1 : 0));
          const from = { epoch: history.epoch, offset };
          const told = toldByHistory(history, offset);
          const answer = tails.answer(channel, from, history.position, history.now);
          if (answer) expect(answer).toEqual(told);
          else {
            const reading = tails.reading(channel, offset);
            const slice = read(history, reading);
            tails.extend(channel, history.position, slice, reading, { retention, now: history.now });
            expect(bridgeFromReading(from, slice, reading)).toEqual(told);
          }
        }
      }
    }),
    { numRuns: 300 },
  );
});

test("REC-4: after one read of the newest that may be replayed, no position of the history needs another one", () => {
  const history = new ModelHistory({ historySize: 3_000, historySeconds: 60 });
  const tails = new Tails();
  const { retention } = history;
  for (let i = 0; i < 2_500; i++) history.publish(i === 2_000 ? 1_000 : 1);
  const at = history.position;
  const first = tails.reading(channel, 3_400);
  expect(first).toEqual({ kind: "after", offset: 3_400 });
  tails.extend(channel, at, read(history, first), first, { retention, now: history.now });
  expect(tails.answer(channel, { ...at, offset: 3_400 }, at, history.now)?.kind).toBe("bridged");
  expect(tails.answer(channel, { ...at, offset: 3_000 }, at, history.now)).toBeUndefined();
  const second = tails.reading(channel, 3_000);
  expect(second).toEqual({ kind: "newest" });
  tails.extend(channel, at, read(history, second), second, { retention, now: history.now });
  const live = history.publish();
  tails.append(channel, history.epoch, live, retention, history.now);
  for (let offset = 0; offset <= live.offset; offset++) {
    const answer = tails.answer(channel, { ...at, offset }, history.position, history.now);
    expect(answer).toEqual(toldByHistory(history, offset));
  }
});

test("REC-3: once the last publication is older than the history is kept, the tail does not answer", () => {
  const history = new ModelHistory({ historySize: 10, historySeconds: 10 });
  const tails = new Tails();
  const { retention } = history;
  for (let i = 0; i < 2; i++) tails.append(channel, "e", history.publish(), retention, history.now);
  const ask = (): Bridge | undefined => tails.answer(channel, { epoch: "e", offset: 1 }, history.position, history.now);
  expect(ask()?.kind).toBe("bridged");
  history.now += 10_000;
  expect(ask()).toBeUndefined();
});

test("REC-5: all tails of a node are bounded: that of the channel which was quiet for longest goes first", () => {
  const tails = new Tails({ maxBytes: 1_000 });
  const retention = { historySize: 10, historySeconds: 10 };
  const histories = new Map(["a", "b", "c"].map((name) => [name, new ModelHistory(retention)]));
  const publish = (name: string): void => {
    const history = histories.get(name);
    if (history) tails.append(name, "e", history.publish(1, 200), retention, history.now);
  };
  const answers = (name: string): boolean =>
    tails.answer(name, { epoch: "e", offset: 0 }, { epoch: "e", offset: 1 }, 1_000_000) !== undefined;
  publish("a");
  publish("b");
  expect([answers("a"), answers("b")]).toEqual([true, true]);
  publish("c");
  expect([answers("a"), answers("b"), answers("c")]).toEqual([false, true, true]);
  expect(tails.bytes).toBeLessThanOrEqual(1_000);
  for (const name of ["a", "b", "c"]) tails.drop(name);
  expect(tails.bytes).toBe(0);
});

test("REC-3: a tail does not outlive a break of its channel", () => {
  const history = new ModelHistory({ historySize: 10, historySeconds: 10 });
  const tails = new Tails();
  for (let i = 0; i < 3; i++) tails.append(channel, "e", history.publish(), history.retention, history.now);
  const anew = { epoch: "new", offset: 3 };
  tails.restart(channel, anew);
  expect(tails.bytes).toBe(0);
  expect(tails.answer(channel, { epoch: "new", offset: 1 }, anew, history.now)).toBeUndefined();
  const old = tails.answer(channel, { epoch: "e", offset: 1 }, anew, history.now);
  expect(old).toEqual({ kind: "broken", reason: "epoch_changed" });
});
