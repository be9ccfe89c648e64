/** The order checker's verdicts: it finds every breach of the contract of keyed queues, and no other. */
import { expect, test } from "vitest";
import type { LossWindow } from "../../loadtest/checker/fault-runner.ts";
import type { Delivery } from "../../loadtest/order/items.ts";
import { KeyLedger, type KeyVerdict } from "../../loadtest/order/key-ledger.ts";

/** ms between two steps. */
const step = 100;

class Key {
  readonly ledger = new KeyLedger("a", "order.item");
  now = 100_000;
  #fence = 0;

  /** Emits items that are acknowledged. */
  emit(count = 1): void {
    for (const number of this.ledger.emit(count)) this.ledger.accepted(number, `id-${number}`, this.now);
  }

  /** One request, that the service takes as a whole unless told otherwise. */
  deliver(numbers: number | number[], changes: Partial<Delivery> = {}): Delivery {
    const all = Array.isArray(numbers) ? numbers : [numbers];
    this.now += step;
    const sequence = changes.sequence ?? digits(all[0] ?? 0);
    const delivery = this.ledger.arrived({
      at: this.now,
      id: `id-${all[0]}`,
      previous: undefined,
      fence: digits(++this.#fence),
      attempt: 1,
      numbers: all,
      ...changes,
      sequence,
    });
    if (!("endedAt" in changes)) delivery.endedAt = this.now + 1;
    if (!delivery.isStale && !("endedAt" in changes)) this.ledger.taken(delivery, changes.taken ?? all.length);
    return delivery;
  }

  judge(lossWindows: readonly LossWindow[] = []): KeyVerdict & { kinds: string[] } {
    const verdict = this.ledger.judge(lossWindows);
    return { ...verdict, kinds: verdict.violations.map(({ kind }) => kind) };
  }
}

function digits(number: number): string {
  return String(number).padStart(20, "0");
}

test("no violation: every item once and in order", () => {
  const key = new Key();
  key.emit(3);
  for (const number of [1, 2, 3]) key.deliver(number, number === 1 ? {} : { previous: digits(number - 1) });
  expect(key.judge()).toMatchObject({ accepted: 3, requests: 3, repeats: 0, staleFences: 0, gone: 0, violations: [] });
});

test("no violation: a repeat of the last item, and failed attempts before", () => {
  const key = new Key();
  key.emit(2);
  key.deliver(1, { taken: 0 });
  key.deliver(1, { attempt: 2 });
  key.deliver(1, { attempt: 3 });
  key.deliver(2);
  expect(key.judge()).toMatchObject({ repeats: 1, violations: [] });
});

test("lost: an acknowledged item is missing, was never taken, or is the last one", () => {
  for (const delivered of [[1, 3], [1, 2], []]) {
    const key = new Key();
    key.emit(3);
    for (const number of delivered) key.deliver(number);
    expect(key.judge().kinds.length).toBe(3 - delivered.length);
    expect(new Set(key.judge().kinds)).toEqual(new Set(["lost"]));
  }
  const refused = new Key();
  refused.emit();
  refused.deliver(1, { taken: 0 });
  expect(refused.judge().kinds).toEqual(["lost"]);
});

test("no violation: an item that was not acknowledged does not have to come", () => {
  const key = new Key();
  key.emit();
  key.ledger.emit(1);
  key.deliver(1);
  expect(key.judge()).toMatchObject({ emitted: 2, accepted: 1, violations: [] });
});

test("inverted: an item comes after a later one, for the first time or again", () => {
  const late = new Key();
  late.emit(3);
  for (const number of [1, 3, 2]) late.deliver(number);
  expect(late.judge().kinds).toEqual(["sequenceBroken", "inverted"]);
  const again = new Key();
  again.emit(3);
  for (const number of [1, 2, 1, 3]) again.deliver(number);
  expect(again.judge()).toMatchObject({ kinds: ["inverted"], repeats: 1 });
  const batch = new Key();
  batch.emit(3);
  batch.deliver([1, 3, 2]);
  expect(batch.judge().kinds).toEqual(["inverted"]);
});

test("no violation: an item that was emitted again comes anywhere within its burst, not outside of it", () => {
  for (const [order, expected] of [
    [[1, 3, 4, 2, 5], []],
    [[1, 3, 4, 5, 2], ["inverted"]],
    [[2, 1, 3, 4, 5], ["inverted"]],
  ] as const) {
    const key = new Key();
    key.emit(1);
    const burst = key.ledger.emit(3);
    for (const number of burst) key.ledger.accepted(number, `id-${number}`, key.now);
    key.ledger.emittedAgain(2, burst);
    key.emit(1);
    for (const [at, number] of order.entries()) key.deliver(number, { sequence: digits(at + 1) });
    expect(key.judge().kinds).toEqual(expected);
  }
});

test("overtaken: an item comes while an earlier one is under way, unless its lease may have ended", () => {
  for (const [afterMs, expected] of [
    [0, ["overtaken"]],
    [9_000, []],
  ] as const) {
    const key = new Key();
    key.emit(2);
    const first = key.deliver(1, { endedAt: undefined as unknown as number });
    key.now += afterMs;
    key.deliver(2);
    first.endedAt = key.now + 1;
    first.answered = true;
    key.ledger.taken(first, 1);
    expect(key.judge().kinds).toEqual(expected);
  }
});

test("no violation: the service sees late that the caller of a request gave up before the next one", () => {
  const key = new Key();
  key.emit();
  const first = key.deliver(1, { endedAt: undefined as unknown as number });
  key.deliver(1, { attempt: 2 });
  first.endedAt = key.now + 1;
  expect(key.judge()).toMatchObject({ kinds: [] });
});

test("no violation: a batch that was not settled comes again, as far as the key has not gone on", () => {
  const key = new Key();
  key.emit(6);
  key.deliver([1, 2, 3]);
  key.deliver([1, 2, 3, 4], { attempt: 2 });
  key.deliver([3, 4]);
  key.deliver([5]);
  expect(key.judge()).toMatchObject({ kinds: ["lost"], repeats: 5 });
  key.deliver([4, 6]);
  expect(key.judge().kinds).toEqual(["inverted"]);
});

test("a request with an older fence counts as stale, and changes nothing", () => {
  const key = new Key();
  key.emit(2);
  key.deliver(1, { fence: digits(5) });
  key.deliver(2, { fence: digits(6) });
  expect(key.deliver(1, { fence: digits(4) }).isStale).toBe(true);
  expect(key.judge()).toMatchObject({ staleFences: 1, repeats: 0, violations: [] });
});

test("fenceReused: two requests have the same fence", () => {
  const key = new Key();
  key.emit(2);
  key.deliver(1, { fence: digits(5) });
  key.deliver(2, { fence: digits(5) });
  expect(key.judge().kinds).toEqual(["fenceReused"]);
});

test("changed: an item comes again under another id or sequence, or under another id than its ack says", () => {
  const id = new Key();
  id.emit();
  id.deliver(1);
  id.deliver(1, { id: "another" });
  expect(id.judge().kinds).toEqual(["changed"]);
  const ack = new Key();
  ack.emit();
  ack.deliver(1, { id: "another" });
  expect(ack.judge().kinds).toEqual(["changed"]);
  const sequence = new Key();
  sequence.emit();
  sequence.deliver(1);
  sequence.deliver(1, { sequence: digits(2) });
  expect(sequence.judge().kinds).toEqual(["changed"]);
});

test("sequenceBroken, previousBroken: the sequence does not grow, or ce-previous names another item", () => {
  const sequence = new Key();
  sequence.emit(2);
  sequence.deliver(1, { sequence: digits(9) });
  sequence.deliver(2, { sequence: digits(8) });
  expect(sequence.judge().kinds).toEqual(["sequenceBroken"]);
  const previous = new Key();
  previous.emit(3);
  previous.deliver(1);
  previous.deliver(2, { previous: digits(1) });
  previous.deliver(3, { previous: digits(1) });
  expect(previous.judge().kinds).toEqual(["previousBroken"]);
});

test("no violation: after a batch ce-previous names an item that came without its sequence", () => {
  const key = new Key();
  key.emit(3);
  key.deliver([1, 2]);
  key.deliver(3, { previous: digits(2) });
  expect(key.judge().kinds).toEqual([]);
});

test("no violation: of a batch the service takes the first items, and the others come again", () => {
  const key = new Key();
  key.emit(5);
  key.deliver([1, 2, 3], { taken: 1 });
  key.deliver([2, 3, 4]);
  key.deliver(5);
  expect(key.judge()).toMatchObject({ repeats: 0, violations: [] });
});

test("a dead letter comes behind later items, with another sequence and the same id", () => {
  const key = new Key();
  key.emit(3);
  key.deliver(1);
  key.deliver(2, { taken: 0 });
  key.deliver(3, { previous: digits(2) });
  expect(key.judge().kinds).toEqual(["lost"]);
  key.ledger.deadLetter(2);
  key.deliver(2, { sequence: digits(9) });
  expect(key.judge()).toMatchObject({ deadLetters: 1, violations: [] });
  key.deliver(2, { sequence: digits(9), id: "another" });
  expect(key.judge().kinds).toEqual(["changed"]);
});

test("within a declared loss items may be gone or come again behind later ones; outside of it not", () => {
  for (const [from, until, expected] of [
    [100_000, 100_500, []],
    [200_000, 200_500, ["inverted", "lost"]],
  ] as const) {
    const key = new Key();
    key.emit(4);
    for (const number of [1, 2, 3]) key.deliver(number);
    // Redis forgot that 2 and 3 were taken, and that 4 was stored.
    for (const number of [2, 3]) key.deliver(number);
    const verdict = key.judge([{ from, until }]);
    expect(verdict.kinds).toEqual(expected);
    expect(verdict).toMatchObject({ repeats: 2, gone: expected.length === 0 ? 1 : 0 });
  }
});

test("inverted: what comes again after a declared loss comes in order", () => {
  const key = new Key();
  key.emit(3);
  for (const number of [1, 2, 3]) key.deliver(number);
  key.now += 60_000;
  for (const number of [1, 3, 2]) key.deliver(number);
  expect(key.judge([{ from: 100_000, until: 100_500 }])).toMatchObject({ kinds: ["inverted"], replayed: 1 });
});
