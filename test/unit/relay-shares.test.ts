import { expect, test } from "vitest";
import { type Asker, RelayShares } from "../../gateway/relay/relay-shares.ts";

const KiB = 1024;

/** Asks from one new session after the other until a question is refused. @returns the number of accepted questions. */
function fill(shares: RelayShares, of: Omit<Asker, "sessionId">, textBytes: number): number {
  for (let taken = 0; taken < 100_000; taken++) {
    const sessionId = `${of.kind} ${of.service} ${Math.floor(taken / 10)}`;
    if (shares.take({ ...of, sessionId }, textBytes) !== undefined) return taken;
  }
  throw new Error("there is no bound");
}

const call = (service: string): Omit<Asker, "sessionId"> => ({ kind: "call", service });
const connect = { kind: "connect", service: undefined } as const;
const subscribe = { kind: "subscribe", service: undefined } as const;

test.each([
  ["number", 100, 8_750, 17_500],
  ["bytes", 64 * KiB, 444, 889],
])("RELAY-6: calls of one service use half of what calls may use, all calls 7/8: %s", (_, bytes, one, all) => {
  const shares = new RelayShares(100);
  expect(fill(shares, call("a"), bytes)).toBe(one);
  expect(fill(shares, call("b"), bytes)).toBe(one);
  expect(fill(shares, call("c"), bytes)).toBe(all - 2 * one);
});

test("RELAY-6: calls leave room for both hooks, the subscribe hook for the connect hook", () => {
  const shares = new RelayShares(100);
  for (const service of ["a", "b", "c"]) fill(shares, call(service), 64 * KiB);
  expect(fill(shares, subscribe, 8 * KiB)).toBeGreaterThan(400);
  expect(fill(shares, connect, 8 * KiB)).toBeGreaterThan(400);
});

test("RELAY-6: questions of one hook leave room for calls", () => {
  const shares = new RelayShares(100);
  expect(fill(shares, subscribe, 100)).toBe(8_750);
  expect(fill(shares, call("a"), 100)).toBe(8_750);
});

test("RELAY-6: a session has at most 500 questions and 2 MiB under way", () => {
  for (const [bytes, most] of [
    [100, 500],
    [64 * KiB, 31],
  ] as const) {
    const shares = new RelayShares(100);
    const asker = { ...call("a"), sessionId: "one" };
    for (let i = 0; i < most; i++) expect(shares.take(asker, bytes)).toBeUndefined();
    expect(shares.take(asker, bytes)).toMatch(/session/);
    expect(shares.take({ ...asker, sessionId: "other" }, bytes)).toBeUndefined();
    shares.give(asker, bytes);
    expect(shares.take(asker, bytes)).toBeUndefined();
  }
});

test("RELAY-6: a question that fills the bytes of a session exactly passes, one byte more does not", () => {
  const asker = { ...call("a"), sessionId: "one" };
  const most = 2 * 1024 * KiB - 512;
  expect(new RelayShares(100).take(asker, most)).toBeUndefined();
  expect(new RelayShares(100).take(asker, most + 1)).toMatch(/session/);
});

test("RELAY-6: a share that was given back can be taken again in full", () => {
  const shares = new RelayShares(100);
  const askers = Array.from({ length: 8_750 }, (_, i) => ({ ...call("a"), sessionId: String(i) }));
  for (let round = 0; round < 2; round++) {
    for (const asker of askers) expect(shares.take(asker, 1_000)).toBeUndefined();
    expect(shares.take({ ...call("a"), sessionId: "more" }, 1_000)).toMatch(/calls of a/);
    for (const asker of askers) shares.give(asker, 1_000);
  }
});

test("RELAY-6: a session may have a whole burst under way", () => {
  const shares = new RelayShares(1_000);
  const asker = { ...call("a"), sessionId: "one" };
  for (let i = 0; i < 1_000; i++) expect(shares.take(asker, 100)).toBeUndefined();
  expect(shares.take(asker, 100)).toMatch(/session/);
});
