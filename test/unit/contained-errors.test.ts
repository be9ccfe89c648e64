/** An exception inside a boundary is counted and logged, and stops there. */
import { expect, test } from "vitest";
import { subscribe } from "../../gateway/commands/subscribe.ts";
import type { GatewayContext } from "../../gateway/node/context.ts";
import { eventFrame } from "../../gateway/outbox/frames.ts";
import { Grants } from "../../gateway/sessions/grant.ts";
import { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import { createLogger } from "../../shared/runtime/logging.ts";
import { Metrics } from "../../shared/runtime/metrics.ts";
import { bareSession } from "../support/bare-session.ts";
import { eventually } from "../support/eventually.ts";

function recorded(): { errors: ContainedErrors; lines: () => { boundary: string; err: { message: string } }[] } {
  let log = "";
  const logger = createLogger({ name: "test", level: "info", destination: { write: (line) => void (log += line) } });
  const parse = (line: string) => JSON.parse(line) as { boundary: string; err: { message: string } };
  return { errors: new ContainedErrors(logger), lines: () => log.split("\n").filter(Boolean).map(parse) };
}

function fail(message: string): never {
  throw new Error(message);
}

test("CONT-1: an exception in a boundary is counted, and logged once per kind", async () => {
  const { errors, lines } = recorded();
  const closed: unknown[] = [];
  for (let i = 0; i < 100; i++) {
    errors.contain(
      "frame",
      () => fail(`frame ${i}`),
      (error) => closed.push(error),
    );
  }
  errors.contain("http", () => fail("http"));
  errors.contain("relay", async () => fail("relay"));
  await eventually(() => errors.counts.relay === 1);
  expect(errors.counts).toEqual({ frame: 100, http: 1, relay: 1, store: 0, timer: 0 });
  expect(closed).toHaveLength(100);
  expect(lines().map(({ boundary, err }) => [boundary, err.message])).toEqual([
    ["frame", "frame 0"],
    ["http", "http"],
    ["relay", "relay"],
  ]);
});

test("CONT-1: of more than 200 kinds the oldest is forgotten, and logged again", () => {
  const { errors, lines } = recorded();
  const report = (kind: number): void =>
    errors.report("frame", Object.assign(new Error("a bug"), { name: `Bug${kind}` }));
  for (let kind = 0; kind < 201; kind++) report(kind);
  expect(lines()).toHaveLength(201);
  report(1);
  expect(lines()).toHaveLength(201);
  report(0);
  expect(lines()).toHaveLength(202);
});

test("CONT-1: closing the peer may throw too", () => {
  const { errors } = recorded();
  errors.contain(
    "http",
    () => fail("first"),
    () => fail("second"),
  );
  expect(errors.counts.http).toBe(2);
});

test("CONT-1: a client's text in the message does not make it another kind of error", () => {
  const { errors, lines } = recorded();
  for (let i = 0; i < 10; i++) errors.contain("frame", () => fail(`a\n    at somewhere:${i}`));
  expect(lines()).toHaveLength(1);
});

test("CONT-2: periodic work that throws runs again in the next interval", async () => {
  const { errors } = recorded();
  const timer = errors.every(1, () => fail("tick"));
  await eventually(() => errors.counts.timer >= 3);
  clearInterval(timer);
});

test("CONT-3: the metrics count contained errors by boundary", async () => {
  const { errors } = recorded();
  const metrics = new Metrics();
  errors.addTo(metrics);
  errors.contain("frame", () => fail("frame"));
  for (let scrape = 0; scrape < 2; scrape++) {
    const text = await metrics.render();
    expect(text).toContain('tidegate_contained_errors_total{boundary="frame"} 1');
    expect(text).toContain('tidegate_contained_errors_total{boundary="timer"} 0');
  }
});

test("CONT-1: a service's subscribe that throws is counted, and ends no process", async () => {
  const { errors, lines } = recorded();
  const session = bareSession("s");
  session.welcome(eventFrame("sync:welcome", {}));
  const context = {
    errors,
    sessionStore: { now: () => 1 },
    grants: new Grants(["a secret"]),
    channels: { join: async () => fail("a bug"), leave: () => undefined },
    presence: { leave: () => undefined },
  } as unknown as GatewayContext;
  subscribe([session], { kind: "subscribe", channel: "room:1" }, context);
  await eventually(() => errors.counts.store === 1);
  expect([lines()[0]?.err.message, session.subscriptions.size]).toEqual(["a bug", 0]);
  session.dispose();
});
