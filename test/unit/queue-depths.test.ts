/** Figures of queues, from exact counts and from a look at a part of them. */
import { expect, test } from "vitest";
import { depthsByTarget, depthsOf } from "../../shared/queues/depths.ts";
import { Rules } from "../../shared/rules/rules.ts";

const look = { class: "messages", service: "a", tenant: "", queues: 1, items: 1, inFlight: 0, oldestMs: 0 };

test("QUE-11: what waits of a class is exact, and divided among its services by a sample", () => {
  const { services } = depthsOf(
    [{ class: "messages", tenant: "", items: 1_000 }],
    [
      { ...look, items: 30, inFlight: 10, queues: 2 },
      { ...look, service: "b", items: 60, oldestMs: 5 },
    ],
  );
  expect(services).toEqual([
    { class: "messages", service: "a", waiting: 248, inFlight: 10, queues: 2, oldestMs: 0 },
    { class: "messages", service: "b", waiting: 743, inFlight: 0, queues: 1, oldestMs: 5 },
  ]);
});

test("QAPI-5: labels are classes and services of the rules; others are summed up", () => {
  const service = { url: "http://a", secret: "s" };
  const rules = new Rules(1, {
    services: { a: service, b: service, audit: service },
    classes: { stats: {} },
    routes: [
      { event: "edit", service: "a", path: "/", mode: "enqueue", also: ["audit"] },
      { event: "stat", service: "a", path: "/", mode: "enqueue", class: "stats" },
      { event: "call", service: "b", path: "/", mode: "call" },
    ],
    hooks: { connected: "b" },
  });
  const depth = { waiting: 1, inFlight: 0, queues: 1, oldestMs: 0 };
  const found = depthsByTarget(
    [
      { class: "messages", service: "a", ...depth },
      { class: "gone", service: "gone-1", ...depth },
      { class: "gone", service: "gone-2", ...depth },
    ],
    rules,
  );
  expect(found.map(({ class: name, service: own, waiting }) => `${name} ${own} ${waiting}`)).toEqual([
    "messages a 1",
    "messages audit 0",
    "stats a 0",
    "messages b 0",
    "other other 2",
  ]);
});
