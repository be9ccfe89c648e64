import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { GatewayContext } from "../../gateway/node/context.ts";
import { type Frame, singleFrame } from "../../gateway/outbox/frames.ts";
import { Outbox } from "../../gateway/outbox/outbox.ts";
import { ReadTurns } from "../../gateway/outbox/read-turns.ts";
import { beginSubscription } from "../../gateway/subscriptions/begin.ts";
import { bareSession } from "../support/bare-session.ts";

const KiB = 1_024;
beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** An outbox whose network takes what is written when the test says so. */
function setUp(): { outbox: Outbox; reads: ReadTurns; take: () => void } {
  let pending: (() => void)[] = [];
  const outbox = new Outbox({
    sink: {
      takenBytes: 0,
      write: (_packet: string, _options: Frame["options"], sent?: () => void) => void (sent && pending.push(sent)),
    },
    maxBytes: 1_024 * KiB,
    conflateFromBytes: 1_024 * KiB,
    onOverflow: () => undefined,
    onConflated: () => undefined,
  });
  outbox.open(singleFrame("welcome"));
  const take = (): void => {
    while (outbox.bytes > 0) for (const sent of pending.splice(0)) sent();
    pending = [];
  };
  take();
  return { outbox, reads: new ReadTurns(outbox), take };
}

/** Counts the reads that begin. Each ends at once with so many bytes. */
function read(reads: ReadTurns, times: number, bytes: number): { begun: number } {
  const count = { begun: 0 };
  for (let i = 0; i < times; i++) {
    void reads.take().then((end) => {
      count.begun++;
      end(bytes);
    });
  }
  return count;
}

test("COST-1: a read begins when the one before has ended and the outbox has room, or is closed", async () => {
  const { outbox, reads, take } = setUp();
  const end = await reads.take();
  const count = read(reads, 2, 0);
  await vi.advanceTimersByTimeAsync(1_000);
  expect(count.begun).toBe(0);
  outbox.send(singleFrame("x".repeat(300 * KiB)));
  end(300 * KiB);
  await vi.advanceTimersByTimeAsync(1_000);
  expect(count.begun).toBe(0);
  take();
  await vi.advanceTimersByTimeAsync(0);
  expect(count.begun).toBe(2);
  outbox.send(singleFrame("x".repeat(300 * KiB)));
  const last = read(reads, 1, 0);
  await vi.advanceTimersByTimeAsync(1_000);
  expect(last.begun).toBe(0);
  outbox.close();
  await vi.advanceTimersByTimeAsync(0);
  expect(last.begun).toBe(1);
});

test("COST-2: reads pass at 4 MiB a second with a burst of 4 MiB; small reads do not wait", async () => {
  const { reads } = setUp();
  const pages = read(reads, 200, 512 * KiB);
  await vi.advanceTimersByTimeAsync(0);
  // The last of them begins when the rate just allows the one before it.
  expect(pages.begun).toBe(9);
  await vi.advanceTimersByTimeAsync(10_000);
  expect(pages.begun).toBe(9 + 80);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(pages.begun).toBe(200);
  const small = read(reads, 600, KiB);
  await vi.advanceTimersByTimeAsync(0);
  expect(small.begun).toBe(600);
});

test("COST-2: a subscribe that its client ends while history is read counts as a full page", async () => {
  const session = bareSession("s");
  const [channel, from] = ["room:1", { epoch: "e", offset: 1 }];
  const context = {
    metrics: { recoveries: { inc: () => undefined } },
    presence: { leave: () => undefined },
    channels: {
      join: async () => undefined,
      leave: () => undefined,
      position: async () => from,
      catchUp: async () => {
        session.subscriptions.get(channel)?.end();
        return { outcome: { kind: "bridged", publications: [], position: from }, source: "history" };
      },
    },
  } as unknown as GatewayContext;
  let refused = 0;
  for (let i = 0; i < 10; i++) {
    const request = { channel, from, authorize: () => ({ by: "token" }) as const };
    beginSubscription(session, request, context).catch(() => void refused++);
    await vi.advanceTimersByTimeAsync(0);
  }
  expect(refused).toBe(9);
  await vi.advanceTimersByTimeAsync(125);
  expect(refused).toBe(10);
  session.dispose();
});
