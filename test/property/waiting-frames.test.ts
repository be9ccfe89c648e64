import fc from "fast-check";
import { expect, test } from "vitest";
import type { Frame } from "../../gateway/outbox/frames.ts";
import { WaitingFrames } from "../../gateway/outbox/waiting-frames.ts";

type Step = { kind: "push"; channel: number; event: number | null; bytes: number } | { kind: "take"; maxBytes: number };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("push" as const),
      channel: fc.nat(2),
      event: fc.option(fc.nat(2)),
      bytes: fc.integer({ min: 1, max: 60 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant("take" as const), maxBytes: fc.integer({ min: 1, max: 300 }) }),
  },
);

test("SLOW-5: conflation keeps offsets growing, drops only replaced frames, and counts both", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), fc.integer({ min: 0, max: 400 }), (steps, conflateFromBytes) => {
      let conflated = 0;
      const waiting = new WaitingFrames({ conflateFromBytes, onConflated: (frames) => (conflated += frames) });
      const pushed: (Frame & { channel: number; offset: number })[] = [];
      const taken: Frame[] = [];
      const takeUpTo = (maxBytes: number): void => {
        const batch = waiting.take(maxBytes);
        const bytes = batch.reduce((sum, frame) => sum + frame.bytes, 0);
        expect(batch.length <= 1 || bytes <= maxBytes).toBe(true);
        taken.push(...batch);
      };
      for (const step of steps) {
        if (step.kind === "take") takeUpTo(step.maxBytes);
        else {
          const { channel, event, bytes } = step;
          const offset = pushed.length;
          const conflationKey = event === null ? undefined : `${channel} ${event}`;
          const frame = { packet: `${offset}`, bytes, options: { compress: false as const }, conflationKey };
          pushed.push({ ...frame, channel, offset });
          waiting.push(pushed.at(-1) as Frame);
        }
      }
      while (waiting.bytes > 0) takeUpTo(100);
      expect(waiting.take(100)).toEqual([]);

      const left = new Set(taken);
      expect(left.size).toBe(taken.length);
      expect(pushed.length - taken.length).toBe(conflated);
      for (const channel of [0, 1, 2]) {
        const offsets = pushed
          .filter((frame) => left.has(frame) && frame.channel === channel)
          .map(({ offset }) => offset);
        const inOrder = (taken as typeof pushed)
          .filter((frame) => frame.channel === channel)
          .map(({ offset }) => offset);
        expect(inOrder).toEqual(offsets);
      }
      for (const [at, frame] of pushed.entries()) {
        const newer = pushed.slice(at + 1).some(({ conflationKey }) => conflationKey === frame.conflationKey);
        if (frame.conflationKey === undefined || !newer) expect(left.has(frame)).toBe(true);
      }
    }),
  );
});
