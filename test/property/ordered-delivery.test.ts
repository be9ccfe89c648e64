/** Ordered delivery over a transport that loses and repeats: followers get every publication once and in order, or a resync. */
import fc from "fast-check";
import { expect, test } from "vitest";
import type { HistorySlice, Position, Publication } from "../../shared/channels/contract.ts";
import {
  type Alignment,
  type DeliveryOwner,
  type Follower,
  OrderedDelivery,
} from "../../gateway/channels/ordered-delivery.ts";

const epoch = "e";

class Recorder implements Follower {
  readonly offsets: number[] = [];
  readonly resyncs: number[] = [];
  deliver(_frame: unknown, { offset }: Publication): void {
    this.offsets.push(offset);
  }
  deliverEphemeral(): void {}
  markLost({ offset }: Position): boolean {
    this.resyncs.push(offset);
    this.offsets.push(-offset);
    return true;
  }
  resync(): undefined {}
}

const owner: DeliveryOwner = {
  name: "board:1",
  keepsLatest: false,
  onDelivered: () => undefined,
  onBroken: () => undefined,
};

function begun(delivery: OrderedDelivery): Alignment {
  const alignment = delivery.beginAlignment();
  if (!alignment) throw new Error("the channel has no follower");
  return alignment;
}

type Fate = "arrives" | "is lost" | "arrives twice";

test("HUB-1: followers get every publication once and in order, whatever the transport does", () => {
  const fates = fc.array(fc.constantFrom<Fate>("arrives", "is lost", "arrives twice"), { maxLength: 60 });
  fc.assert(
    fc.property(fates, fc.integer({ min: 1, max: 60 }), (plan, historySize) => {
      const delivery = new OrderedDelivery(owner);
      const followers = [new Recorder(), new Recorder()];
      for (const follower of followers) delivery.add(follower);
      const history: Publication[] = [];
      const read = (): HistorySlice => {
        const after = delivery.beginAlignment()?.from?.offset ?? 0;
        const kept = history.slice(-historySize).filter(({ offset }) => offset > after);
        return { position: { epoch, offset: history.length }, publications: kept, more: false };
      };
      const align = (): void => {
        for (let again = true; again;) again = delivery.align(begun(delivery), read());
      };
      align();
      for (const fate of plan) {
        const publication = { offset: history.length + 1, prev: history.length, event: "e", data: "1" };
        history.push(publication);
        const times = { arrives: 1, "is lost": 0, "arrives twice": 2 }[fate];
        for (let i = 0; i < times; i++) {
          if (delivery.receive(epoch, publication)) align();
        }
      }
      // The last publications may be lost: a comparison of positions finds them.
      delivery.misalign();
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

test("HUB-2: a publication that arrives while history is read is held and delivered after it", () => {
  const delivery = new OrderedDelivery(owner);
  const follower = new Recorder();
  delivery.add(follower);
  const publication = (offset: number): Publication => ({ offset, prev: offset - 1, event: "e", data: "1" });
  delivery.receive(epoch, publication(3));
  expect(delivery.position).toBeUndefined();
  delivery.align(begun(delivery), { position: { epoch, offset: 2 }, publications: [], more: false });
  expect(follower.offsets).toEqual([3]);
  expect(delivery.position).toEqual({ epoch, offset: 3 });
});

test("HUB-3: a new epoch of the history is one resync for each follower", () => {
  const delivery = new OrderedDelivery(owner);
  const follower = new Recorder();
  delivery.add(follower);
  delivery.align(begun(delivery), { position: { epoch: "old", offset: 9 }, publications: [], more: false });
  expect(delivery.receive(epoch, { offset: 1, prev: 0, event: "e", data: "1" })).toBe(true);
  delivery.align(begun(delivery), { position: { epoch, offset: 1 }, publications: [], more: false });
  expect(follower.resyncs).toEqual([1]);
  delivery.receive(epoch, { offset: 2, prev: 1, event: "e", data: "1" });
  expect(follower.offsets).toEqual([-1, 2]);
});

test("HUB-4: a read from before an interruption, or before the last leave, aligns nothing", () => {
  const delivery = new OrderedDelivery(owner);
  const [early, late] = [new Recorder(), new Recorder()];
  const slice = (offset: number): HistorySlice => ({ position: { epoch, offset }, publications: [], more: false });
  delivery.add(early);
  const beforeInterruption = begun(delivery);
  delivery.misalign();
  expect(delivery.align(beforeInterruption, slice(1))).toBe(true);
  const beforeLeaving = begun(delivery);
  delivery.remove(early);
  expect(delivery.align(beforeLeaving, slice(2))).toBe(false);
  delivery.add(late);
  expect(delivery.align(beforeLeaving, slice(2))).toBe(true);
  expect(delivery.position).toBeUndefined();
  expect(delivery.align(begun(delivery), slice(3))).toBe(false);
  expect(delivery.position).toEqual({ epoch, offset: 3 });
});

test("HUB-6: held publications of an older history do not keep a channel from being aligned", () => {
  const delivery = new OrderedDelivery(owner);
  const follower = new Recorder();
  delivery.add(follower);
  delivery.align(begun(delivery), { position: { epoch: "old", offset: 3 }, publications: [], more: false });
  expect(delivery.receive("old", { offset: 9, prev: 8, event: "e", data: "1" })).toBe(true);
  const restarted: HistorySlice = { position: { epoch, offset: 0 }, publications: [], more: false };
  expect(delivery.align(begun(delivery), restarted)).toBe(true);
  expect(delivery.align(begun(delivery), restarted)).toBe(false);
  expect(delivery.position).toEqual({ epoch, offset: 0 });
  expect(follower.resyncs).toHaveLength(1);
});

test.each(["x", "\u6f22"])(
  "HUB-2: held publications beyond 1 MiB are dropped, and history is read once more (%s)",
  (character) => {
    const delivery = new OrderedDelivery(owner);
    const follower = new Recorder();
    delivery.add(follower);
    const half = JSON.stringify(character.repeat(600_000 / Buffer.byteLength(character)));
    for (const offset of [1, 2, 3]) delivery.receive(epoch, { offset, prev: offset - 1, event: "e", data: half });
    expect(delivery.align(begun(delivery), { position: { epoch, offset: 0 }, publications: [], more: false })).toBe(
      true,
    );
    const publications = [1, 2, 3].map((offset) => ({ offset, prev: offset - 1, event: "e", data: half }));
    expect(delivery.align(begun(delivery), { position: { epoch, offset: 3 }, publications, more: false })).toBe(false);
    expect(follower.offsets).toEqual([1, 2, 3]);
  },
);

test("HUB-2: held publications count with their own memory, however small their data is", () => {
  const delivery = new OrderedDelivery(owner);
  delivery.add(new Recorder());
  for (let offset = 1; offset <= 6_000; offset++) {
    delivery.receive(epoch, { offset, prev: offset - 1, event: "e", data: "1" });
  }
  const nothing: HistorySlice = { position: { epoch, offset: 0 }, publications: [], more: false };
  expect(delivery.align(begun(delivery), nothing)).toBe(true);
  expect(delivery.align(begun(delivery), nothing)).toBe(false);
});
