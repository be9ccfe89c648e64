/** The hub under a transport that loses and repeats: followers see every publication once and in order, or a resync. */
import fc from "fast-check";
import { expect, test } from "vitest";
import type { HistorySlice, Position, Publication } from "../../shared/channels/contract.ts";
import { type Alignment, Hub, type HubListener, type Follower } from "../../gateway/channels/hub.ts";

const channel = "board:1";
const epoch = "e";

class Recorder implements Follower {
  readonly offsets: number[] = [];
  readonly resyncs: number[] = [];
  deliver(_frame: unknown, { offset }: Publication): void {
    this.offsets.push(offset);
  }
  deliverEphemeral(): void {}
  lose({ offset }: Position): boolean {
    this.resyncs.push(offset);
    this.offsets.push(-offset);
    return true;
  }
  resync(): undefined {}
}

const deaf: HubListener = { onDelivered: () => undefined, onBroken: () => undefined };

function begun(hub: Hub): Alignment {
  const alignment = hub.beginAlignment(channel);
  if (!alignment) throw new Error("nobody follows the channel");
  return alignment;
}

type Fate = "arrives" | "is lost" | "arrives twice";

test("HUB-1: whatever the transport loses or repeats, each follower gets every publication once and in order", () => {
  const fates = fc.array(fc.constantFrom<Fate>("arrives", "is lost", "arrives twice"), { maxLength: 60 });
  fc.assert(
    fc.property(fates, fc.integer({ min: 1, max: 60 }), (plan, historySize) => {
      const hub = new Hub(deaf);
      const followers = [new Recorder(), new Recorder()];
      for (const follower of followers) hub.add(channel, follower);
      const history: Publication[] = [];
      const read = (): HistorySlice => {
        const after = hub.beginAlignment(channel)?.from?.offset ?? 0;
        const kept = history.slice(-historySize).filter(({ offset }) => offset > after);
        return { position: { epoch, offset: history.length }, publications: kept, more: false };
      };
      const align = (): void => {
        for (let again = true; again;) again = hub.align(begun(hub), read());
      };
      align();
      for (const fate of plan) {
        const publication = { offset: history.length + 1, prev: history.length, event: "e", data: "1" };
        history.push(publication);
        const times = { arrives: 1, "is lost": 0, "arrives twice": 2 }[fate];
        for (let i = 0; i < times; i++) {
          if (hub.receive(channel, epoch, publication)) align();
        }
      }
      // The last ones may be lost: a comparison of positions finds them.
      hub.misalign(channel);
      align();

      for (const follower of followers) {
        let expected = 1;
        for (const offset of follower.offsets) {
          if (offset < 0) expect(-offset).toBeGreaterThanOrEqual(expected);
          else expect(offset).toBe(expected);
          expected = Math.abs(offset) + 1;
        }
        expect(expected).toBe(history.length + 1);
        const longestLoss = longestRun(plan, "is lost");
        if (longestLoss < historySize) expect(follower.resyncs).toEqual([]);
      }
    }),
  );
});

function longestRun(plan: readonly Fate[], fate: Fate): number {
  let longest = 0;
  let run = 0;
  for (const step of plan) {
    run = step === fate ? run + 1 : 0;
    longest = Math.max(longest, run);
  }
  return longest;
}

test("HUB-2: what arrives while history is read is held, and follows it", () => {
  const hub = new Hub(deaf);
  const follower = new Recorder();
  hub.add(channel, follower);
  const publication = (offset: number): Publication => ({ offset, prev: offset - 1, event: "e", data: "1" });
  hub.receive(channel, epoch, publication(3));
  expect(hub.position(channel)).toBeUndefined();
  hub.align(begun(hub), { position: { epoch, offset: 2 }, publications: [], more: false });
  expect(follower.offsets).toEqual([3]);
  expect(hub.position(channel)).toEqual({ epoch, offset: 3 });
});

test("HUB-3: a channel whose history began anew is one resync for each follower", () => {
  const hub = new Hub(deaf);
  const follower = new Recorder();
  hub.add(channel, follower);
  hub.align(begun(hub), { position: { epoch: "old", offset: 9 }, publications: [], more: false });
  expect(hub.receive(channel, epoch, { offset: 1, prev: 0, event: "e", data: "1" })).toBe(true);
  hub.align(begun(hub), { position: { epoch, offset: 1 }, publications: [], more: false });
  expect(follower.resyncs).toEqual([1]);
  hub.receive(channel, epoch, { offset: 2, prev: 1, event: "e", data: "1" });
  expect(follower.offsets).toEqual([-1, 2]);
});

test("HUB-4: a read that began before an interruption, or before the channel was joined anew, aligns nothing", () => {
  const hub = new Hub(deaf);
  const [early, late] = [new Recorder(), new Recorder()];
  const slice = (offset: number): HistorySlice => ({ position: { epoch, offset }, publications: [], more: false });
  hub.add(channel, early);
  const beforeInterruption = begun(hub);
  hub.misalign(channel);
  expect(hub.align(beforeInterruption, slice(1))).toBe(true);
  const beforeLeaving = begun(hub);
  hub.remove(channel, early);
  expect(hub.align(beforeLeaving, slice(2))).toBe(false);
  hub.add(channel, late);
  expect(hub.align(beforeLeaving, slice(2))).toBe(true);
  expect(hub.position(channel)).toBeUndefined();
  expect(hub.align(begun(hub), slice(3))).toBe(false);
  expect(hub.position(channel)).toEqual({ epoch, offset: 3 });
});

test("HUB-6: publications of an older history that were held do not keep a channel from being aligned", () => {
  const hub = new Hub(deaf);
  const follower = new Recorder();
  hub.add(channel, follower);
  hub.align(begun(hub), { position: { epoch: "old", offset: 3 }, publications: [], more: false });
  expect(hub.receive(channel, "old", { offset: 9, prev: 8, event: "e", data: "1" })).toBe(true);
  const anew: HistorySlice = { position: { epoch, offset: 0 }, publications: [], more: false };
  expect(hub.align(begun(hub), anew)).toBe(true);
  expect(hub.align(begun(hub), anew)).toBe(false);
  expect(hub.position(channel)).toEqual({ epoch, offset: 0 });
  expect(follower.resyncs).toHaveLength(1);
});

test("HUB-2: what arrives beyond the bound while history is read is dropped, and read once more", () => {
  const hub = new Hub(deaf);
  const follower = new Recorder();
  hub.add(channel, follower);
  const half = JSON.stringify("x".repeat(600_000));
  for (const offset of [1, 2, 3]) hub.receive(channel, epoch, { offset, prev: offset - 1, event: "e", data: half });
  expect(hub.align(begun(hub), { position: { epoch, offset: 0 }, publications: [], more: false })).toBe(true);
  const publications = [1, 2, 3].map((offset) => ({ offset, prev: offset - 1, event: "e", data: half }));
  expect(hub.align(begun(hub), { position: { epoch, offset: 3 }, publications, more: false })).toBe(false);
  expect(follower.offsets).toEqual([1, 2, 3]);
});
