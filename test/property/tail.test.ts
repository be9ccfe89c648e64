/** The tail against a model of history: every answer is the one that a read of history would give. */
import fc from "fast-check";
import { expect, test } from "vitest";
import type { HistorySlice } from "../../shared/channels/contract.ts";
import { maxReplayBytes, maxReplayPublications } from "../../shared/protocol/limits.ts";
import { type Bridge, bridgeFromReading, type Reading } from "../../gateway/channels/recovery.ts";
import { Tail } from "../../gateway/channels/tail.ts";
import { TailBudget } from "../../gateway/channels/tail-budget.ts";
import { ModelHistory } from "../support/model-history.ts";

function read(history: ModelHistory, reading: Reading): HistorySlice {
  return history.read({
    ...(reading.kind === "after" ? { after: reading.offset } : { newest: true }),
    limit: maxReplayPublications,
    maxBytes: maxReplayBytes,
  });
}

/** The answer that a read for this client alone would give. */
function answerOfHistory(history: ModelHistory, offset: number): Bridge | undefined {
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

test("REC-3: a tail answers as history would, through jumps, trimming, expiry and eviction", () => {
  fc.assert(
    fc.property(fc.constantFrom(0, 3, 20, 2_000), fc.nat({ max: 20 }), steps, (historySize, before, plan) => {
      const retention = { historySize, historySeconds: 10 };
      const history = new ModelHistory(retention);
      const tail = new Tail(new TailBudget());
      for (let i = 0; i < before; i++) history.publish();
      const given = [0, history.position.offset];
      for (const step of plan) {
        if (step.kind === "wait") history.now += step.seconds * 1_000;
        else if (step.kind === "evict") tail.drop();
        else if (step.kind === "publish") {
          for (let i = 0; i < step.count; i++) {
            const publication = history.publish(step.step, step.bytes);
            tail.append(history.epoch, publication, retention, history.now);
            given.push(publication.offset);
          }
        } else {
          // An offset of a publication, or one inside a jump before it.
          const offset = Math.max(0, (given[step.seed % given.length] ?? 0) - (step.seed % 7 === 0 ? 1 : 0));
          const from = { epoch: history.epoch, offset };
          const expected = answerOfHistory(history, offset);
          const answer = tail.answer(from, history.position, history.now);
          if (answer) expect(answer).toEqual(expected);
          else {
            const reading = tail.reading(offset);
            const slice = read(history, reading);
            tail.extend(history.position, slice, reading, { retention, now: history.now });
            expect(bridgeFromReading(from, slice, reading)).toEqual(expected);
          }
        }
      }
    }),
    { numRuns: 300 },
  );
});

test("REC-4: after one read of the newest publications no position needs another read", () => {
  const history = new ModelHistory({ historySize: 3_000, historySeconds: 60 });
  const tail = new Tail(new TailBudget());
  const { retention } = history;
  for (let i = 0; i < 2_500; i++) history.publish(i === 2_000 ? 1_000 : 1);
  const at = history.position;
  const first = tail.reading(3_400);
  expect(first).toEqual({ kind: "after", offset: 3_400 });
  tail.extend(at, read(history, first), first, { retention, now: history.now });
  expect(tail.answer({ ...at, offset: 3_400 }, at, history.now)?.kind).toBe("bridged");
  expect(tail.answer({ ...at, offset: 3_000 }, at, history.now)).toBeUndefined();
  const second = tail.reading(3_000);
  expect(second).toEqual({ kind: "newest" });
  tail.extend(at, read(history, second), second, { retention, now: history.now });
  const live = history.publish();
  tail.append(history.epoch, live, retention, history.now);
  for (let offset = 0; offset <= live.offset; offset++) {
    const answer = tail.answer({ ...at, offset }, history.position, history.now);
    expect(answer).toEqual(answerOfHistory(history, offset));
  }
});

test("REC-3: a tail does not answer once history has dropped its last publication", () => {
  const history = new ModelHistory({ historySize: 10, historySeconds: 10 });
  const tail = new Tail(new TailBudget());
  const { retention } = history;
  for (let i = 0; i < 2; i++) tail.append("e", history.publish(), retention, history.now);
  const ask = (): Bridge | undefined => tail.answer({ epoch: "e", offset: 1 }, history.position, history.now);
  expect(ask()?.kind).toBe("bridged");
  history.now += 10_000;
  expect(ask()).toBeUndefined();
});

test("REC-3: a tail begins again with the first publication after its history expired", () => {
  const history = new ModelHistory({ historySize: 10, historySeconds: 10 });
  const tail = new Tail(new TailBudget());
  const publish = (): void => tail.append("e", history.publish(), history.retention, history.now);
  for (let i = 0; i < 2; i++) publish();
  history.now += 10_000;
  publish();
  const ask = (offset: number): Bridge | undefined =>
    tail.answer({ epoch: "e", offset }, history.position, history.now);
  expect([ask(1), ask(2)?.kind]).toEqual([undefined, "bridged"]);
});

test("REC-5: tails share a bound: the one that got no publication for longest is dropped first", () => {
  const budget = new TailBudget({ maxBytes: 1_000 });
  const retention = { historySize: 10, historySeconds: 10 };
  const [a, b, c] = [new Tail(budget), new Tail(budget), new Tail(budget)];
  const publish = (tail: Tail): void => {
    const history = new ModelHistory(retention);
    tail.append("e", history.publish(1, 200), retention, history.now);
  };
  const answers = (tail: Tail): boolean =>
    tail.answer({ epoch: "e", offset: 0 }, { epoch: "e", offset: 1 }, 1_000_000) !== undefined;
  publish(a);
  publish(b);
  expect([answers(a), answers(b)]).toEqual([true, true]);
  publish(c);
  expect([answers(a), answers(b), answers(c)]).toEqual([false, true, true]);
  expect(budget.bytes).toBeLessThanOrEqual(1_000);
  for (const tail of [a, b, c]) tail.drop();
  expect(budget.bytes).toBe(0);
});

test("REC-3: a tail does not outlive a gap in its channel", () => {
  const history = new ModelHistory({ historySize: 10, historySeconds: 10 });
  const budget = new TailBudget();
  const tail = new Tail(budget);
  for (let i = 0; i < 3; i++) tail.append("e", history.publish(), history.retention, history.now);
  const restart = { epoch: "new", offset: 3 };
  tail.restart(restart);
  expect(budget.bytes).toBe(0);
  expect(tail.answer({ epoch: "new", offset: 1 }, restart, history.now)).toBeUndefined();
  const old = tail.answer({ epoch: "e", offset: 1 }, restart, history.now);
  expect(old).toEqual({ kind: "broken", reason: "epoch_changed" });
});
