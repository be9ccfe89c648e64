/** What one client may send: events, and requests by their price. */
import { expect, test } from "vitest";
import { ClientFlow, type Passage } from "../../gateway/sessions/client-flow.ts";
import { announcementPrice, maxOpenRequests, prices, requestBudget } from "../../gateway/requests/prices.ts";

test("LIM-1: a burst passes, then the rate; each refusal has a later retry-after", () => {
  const flow = new ClientFlow({ capacity: 100, perSecond: 50 }, 0);
  const passages = Array.from({ length: 150 }, () => flow.pass(0));
  expect(passages.filter(({ kind }) => kind === "passed")).toHaveLength(100);
  expect(passages.slice(100).map((passage) => (passage.kind === "refused" ? passage.retryAfterMs : 0))).toEqual(
    Array.from({ length: 50 }, (_, i) => (i + 1) * 20),
  );
  const second = Array.from({ length: 100 }, () => flow.pass(1_000));
  expect(second.filter(({ kind }) => kind === "passed")).toHaveLength(50);
});

test("LIM-3: a client is cut a thousand messages past its limit, but not at twice its rate", () => {
  const flood = new ClientFlow({ capacity: 100, perSecond: 50 }, 0);
  const passages = Array.from({ length: 1_101 }, () => flood.pass(0));
  expect(passages.at(-2)?.kind).toBe("refused");
  expect(passages.at(-1)?.kind).toBe("flooding");
  const steady = new ClientFlow({ capacity: 100, perSecond: 50 }, 0);
  const kinds = new Set<Passage["kind"]>();
  for (let now = 0; now < 60_000; now += 10) kinds.add(steady.pass(now).kind);
  expect([...kinds]).toEqual(["passed", "refused"]);
});

test("LIM-2: a client reads all of its channels at once, then twenty a second", () => {
  const flow = new ClientFlow(requestBudget, 0, maxOpenRequests);
  const pass = (name: keyof typeof prices, count: number, now: number): number =>
    Array.from({ length: count }, () => flow.pass(now, prices[name])).filter(({ kind }) => kind === "passed").length;
  expect(pass("sync:subscribe", 200, 0)).toBe(200);
  // Each joins a channel that announces it to others.
  for (let i = 0; i < 200; i++) flow.answered(announcementPrice);
  expect(pass("sync:presence", 200, 0)).toBe(200);
  expect(pass("sync:history", 200, 0)).toBe(200);
  for (let i = 0; i < 400; i++) flow.answered();
  let passed = 0;
  for (let now = 0; now < 10_000; now += 50) {
    const read = pass("sync:history", 2, now);
    for (let i = 0; i < read; i++) flow.answered();
    passed += read;
  }
  expect(passed).toBeGreaterThanOrEqual(198);
  expect(passed).toBeLessThanOrEqual(200);
});

test("LIM-2: a client that joins and leaves repeatedly is announced eight times a second", () => {
  const flow = new ClientFlow(requestBudget, 0, maxOpenRequests);
  let announced = 0;
  for (let now = 0; now < 60_000; now += 10) {
    for (const name of ["sync:subscribe", "sync:unsubscribe"] as const) {
      if (flow.pass(now, prices[name]).kind !== "passed") continue;
      flow.answered(announcementPrice);
      announced++;
    }
  }
  const atOnce = requestBudget.capacity / 12;
  expect(announced).toBeGreaterThan(atOnce);
  expect(announced).toBeLessThan(atOnce + 60 * 17);
});

test("LIM-2: a client has at most 600 open requests", () => {
  const flow = new ClientFlow({ capacity: 10_000, perSecond: 1 }, 0, 600);
  const kinds = Array.from({ length: 601 }, () => flow.pass(0).kind);
  expect(kinds.slice(0, 600).every((kind) => kind === "passed")).toBe(true);
  expect(kinds[600]).toBe("refused");
  expect(flow.pass(0)).toMatchObject({ kind: "refused", retryAfterMs: 1_000 });
  flow.answered();
  expect(flow.pass(0).kind).toBe("passed");
});
