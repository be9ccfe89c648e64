/** Under any demand and any change of shares: no admission is too early, and no handshake is lost. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { ReconnectTimes } from "../../gateway/entrance/reconnect-times.ts";
import { neverMoreThan, TokenBucket } from "../../shared/runtime/token-bucket.ts";
import { type AdmissionKind, AdmissionQueue } from "../../gateway/entrance/admission-queue.ts";

/** The most of these times that fall into any one second. */
function mostInOneSecond(times: readonly number[]): number {
  let first = 0;
  return times.reduce((most, time, last) => {
    while ((times[first] ?? 0) <= time - 1_000) first++;
    return Math.max(most, last - first + 1);
  }, 0);
}

/** Mostly more demand than the share; an occasional pause lets the bucket fill. */
const asks = fc.constantFrom(true, true, true, true, false);
const demand = fc.array(fc.record({ ms: fc.integer({ min: 1, max: 700 }), asks }), { maxLength: 12 });

test("ADM-1: in no second does a node admit more than its largest share in that second", () => {
  const shares = fc.array(fc.record({ at: fc.integer({ min: 0, max: 100 }), share: shareOf(0, 60) }), {
    minLength: 1,
    maxLength: 6,
  });
  fc.assert(
    fc.property(shares, demand, (changes, demand) => {
      const bucket = new TokenBucket(neverMoreThan(0), 0, 0);
      const taken: number[] = [];
      let now = 0;
      for (const { ms, asks } of demand) {
        for (const end = now + ms; now < end; now++) {
          for (const { at, share } of changes) if (at === now) bucket.change(neverMoreThan(share), now);
          while (asks && bucket.take(now)) taken.push(now);
        }
      }
      const largest = Math.max(1, ...changes.map(({ share }) => share));
      expect(mostInOneSecond(taken)).toBeLessThanOrEqual(largest);
    }),
  );
});

test("ADM-1: in no second do all nodes together admit more than the budget as shares change", () => {
  const budget = 200;
  const step = fc.record({
    ms: fc.integer({ min: 1, max: 900 }),
    weights: fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 3, maxLength: 3 }),
    asks,
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 8 }), (steps) => {
      const nodes = [0, 1, 2].map(() => new TokenBucket(neverMoreThan(0), 0, 0));
      const taken: number[] = [];
      let now = 0;
      for (const { ms, weights, asks } of steps) {
        const sum = weights.reduce((total, weight) => total + weight, 0);
        // From 20 a second each, a bucket saves up tokens.
        for (const [node, bucket] of nodes.entries()) {
          bucket.change(neverMoreThan(20 + ((budget - 60) * (weights[node] ?? 0)) / sum), now);
        }
        for (const end = now + ms; now < end; now++) {
          for (const bucket of nodes) while (asks && bucket.take(now)) taken.push(now);
        }
      }
      expect(mostInOneSecond(taken)).toBeLessThanOrEqual(budget);
    }),
  );
});

test("ADM-1: a node uses its share, a fractional one too", () => {
  const admitted = (share: number, ms: number): number => {
    const bucket = new TokenBucket(neverMoreThan(share), 0, 0);
    let taken = 0;
    for (let now = 0; now <= ms; now++) while (bucket.take(now)) taken++;
    return taken;
  };
  expect(admitted(0.5, 60_100)).toBe(30);
  expect(admitted(7, 60_100)).toBe(420);
  expect(admitted(1_000, 60_001)).toBe(57_000);
  expect(admitted(0, 60_000)).toBe(0);
});

interface Waiting {
  kind: AdmissionKind;
}

test("ADM-2: the queue takes resumes first, oldest first, and a cold one after nine resumes", () => {
  const steps = fc.array(
    fc.oneof(
      fc.record({ do: fc.constant("add" as const), kind: fc.constantFrom("resume" as const, "cold" as const) }),
      fc.record({ do: fc.constant("leave" as const), which: fc.nat(50) }),
      fc.record({ do: fc.constant("next" as const) }),
    ),
    { maxLength: 200 },
  );
  fc.assert(
    fc.property(steps, (steps) => {
      const queue = new AdmissionQueue<Waiting>();
      const model: { resume: Waiting[]; cold: Waiting[] } = { resume: [], cold: [] };
      let resumesInARow = 0;
      for (const step of steps) {
        if (step.do === "add") {
          const waiting = { kind: step.kind };
          queue.add(step.kind, waiting);
          model[step.kind].push(waiting);
        } else if (step.do === "leave") {
          const all = [...model.resume, ...model.cold];
          const leaver = all[step.which % Math.max(1, all.length)];
          if (!leaver) continue;
          expect(queue.remove(leaver)).toBe(true);
          expect(queue.remove(leaver)).toBe(false);
          model[leaver.kind] = model[leaver.kind].filter((waiting) => waiting !== leaver);
        } else {
          const isColdsTurn = model.resume.length === 0 || (resumesInARow >= 9 && model.cold.length > 0);
          const kind = isColdsTurn ? "cold" : "resume";
          expect(queue.oldest(kind)).toBe(model[kind][0]);
          expect(queue.take()).toBe(model[kind].shift());
          resumesInARow = kind === "resume" ? resumesInARow + 1 : 0;
        }
        expect(queue.length).toBe(model.resume.length + model.cold.length);
      }
    }),
  );
});

test("ADM-3: reconnect times come at the rate of admission, up to the horizon", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 500 }),
      fc.array(fc.record({ pauseMs: fc.nat(300), notBeforeMs: fc.nat(5_000) }), { minLength: 1, maxLength: 300 }),
      (perSecond, refusals) => {
        const times = new ReconnectTimes({ random: () => 0 });
        let now = 0;
        const reconnectAt = refusals.map(({ pauseMs, notBeforeMs }) => {
          now += pauseMs;
          const waitMs = times.take(now, { perSecond, notBeforeMs });
          expect(waitMs).toBeGreaterThanOrEqual(notBeforeMs);
          expect(waitMs).toBeLessThanOrEqual(600_000);
          return now + waitMs;
        });
        // Whole ms: one more may fall into a second.
        if (perSecond * 600 > refusals.length) expect(mostInOneSecond(reconnectAt)).toBeLessThanOrEqual(perSecond + 1);
      },
    ),
  );
});

function shareOf(min: number, max: number): fc.Arbitrary<number> {
  return fc.oneof(fc.integer({ min, max }), fc.double({ min, max, noNaN: true }));
}
