/** The SDK against a model: connects, losses, answers, publications, subscribes and calls in random order. */
import fc from "fast-check";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { connectCodes } from "../../shared/protocol/codes.ts";
import { World } from "./client-model.ts";
import { channelNames } from "./client-model-application.ts";

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "Date", "performance"] });
});
afterEach(() => {
  vi.useRealTimers();
});

type Move = readonly [name: string, make: (world: World) => void];

const channel = fc.constantFrom(...channelNames);
const refusal = fc.constantFrom(...(Object.keys(connectCodes) as (keyof typeof connectCodes)[]));
const disconnectCode = fc.constantFrom(
  ["draining", true] as const,
  ["token_expired", true] as const,
  ["slow_consumer", true] as const,
  ["replaced", false] as const,
  ["revoked", false] as const,
);

/** One move: its name in a counterexample, and its effect. */
function move<Values extends unknown[]>(
  name: string,
  values: { [Index in keyof Values]: fc.Arbitrary<Values[Index]> },
  make: (world: World, ...values: Values) => void,
): fc.Arbitrary<Move> {
  return fc
    .tuple(...values)
    .map((given) => [`${name}(${given.join(", ")})`, (world) => make(world, ...(given as Values))] as const);
}

/** Passes after each move; mostly none, so that moves overlap. */
const time = fc.oneof(
  { arbitrary: fc.constant(0), weight: 12 },
  { arbitrary: fc.constantFrom(50, 600, 1_500), weight: 6 },
  { arbitrary: fc.constantFrom(20_000, 100_000), weight: 1 },
);
const answers = fc.constantFrom("ok", "later", "never", "unrecovered", "behind");
/** Mostly the newest connection. */
const which = fc.constantFrom(0, 0, 0, 1, 1, 2);
/** Bits; mostly no connection. */
const some = fc.constantFrom(0, 0, 0, 1, 2, 3);
const resumeToken = fc.constantFrom("resume", null);
const lifetimeMs = fc.constantFrom(1_000, 70_000, 3_600_000);
const reconnectInMs = fc.constantFrom(0, 0, 50, 5_000);
const deadlineInMs = fc.constantFrom(40, 5_000, 60_000);
const retryAfterMs = fc.constantFrom(undefined, 0, 600, 20_000);
const withinMs = fc.constantFrom(500, 30_000, 60_000);

const anyMove = fc.oneof(
  {
    arbitrary: move("welcome", [resumeToken, lifetimeMs], (world, ...given) => world.gateway.welcome(...given)),
    weight: 12,
  },
  { arbitrary: move("answer", [which], (world, on) => world.gateway.answer(on, "ok")), weight: 14 },
  {
    arbitrary: move("answer", [which, answers, fc.nat(3)], (world, ...given) => world.gateway.answer(...given)),
    weight: 10,
  },
  { arbitrary: move("publish", [channel, some], (world, ...given) => world.gateway.publish(...given)), weight: 12 },
  {
    arbitrary: move("subscribe", [channel, fc.boolean()], (world, ...given) => world.application.subscribe(...given)),
    weight: 8,
  },
  {
    arbitrary: move("call", [fc.boolean(), withinMs], (world, ...given) => world.application.call(...given)),
    weight: 8,
  },
  {
    arbitrary: move("drain", [which, reconnectInMs, deadlineInMs], (world, ...given) => world.gateway.drain(...given)),
    weight: 10,
  },
  { arbitrary: move("lose", [which], (world, on) => world.gateway.lose(on)), weight: 5 },
  { arbitrary: move("unsubscribe", [channel], (world, name) => world.application.unsubscribe(name)), weight: 4 },
  { arbitrary: move("message", [which], (world, on) => world.gateway.message(on)), weight: 4 },
  { arbitrary: move("ephemeral", [channel, some], (world, ...given) => world.gateway.ephemeral(...given)), weight: 4 },
  {
    arbitrary: move("repeatLast", [which, channel], (world, ...given) => world.gateway.repeatLast(...given)),
    weight: 3,
  },
  {
    arbitrary: move("subscribeFor", [which, channel], (world, ...given) => world.gateway.subscribeFor(...given)),
    weight: 3,
  },
  { arbitrary: move("resync", [which, channel], (world, ...given) => world.gateway.resync(...given)), weight: 2 },
  {
    arbitrary: move("loseHistory", [channel, some], (world, ...given) => world.gateway.loseHistory(...given)),
    weight: 2,
  },
  { arbitrary: move("revoke", [which, channel], (world, ...given) => world.gateway.revoke(...given)), weight: 2 },
  {
    arbitrary: move("refuse", [refusal, retryAfterMs], (world, code, waitMs) =>
      world.gateway.refuse(code, connectCodes[code].retryable, waitMs),
    ),
    weight: 4,
  },
  {
    arbitrary: move("unsubscribe when delivered", [channel], (world, name) =>
      world.application.whenDelivered(name, () => world.application.unsubscribe(name)),
    ),
    weight: 2,
  },
  {
    arbitrary: move("disconnect", [which, disconnectCode], (world, on, [code, reconnect]) =>
      world.gateway.disconnect(on, code, reconnect),
    ),
    weight: 2,
  },
  {
    arbitrary: move("tokenTakes", [fc.constantFrom(0, 40, 20_000)], (world, ms) => (world.tokenTakesMs = ms)),
    weight: 3,
  },
  {
    arbitrary: move("tokenFails", [fc.boolean()], (world, fails) => (world.tokenFails = fails)),
    weight: 1,
  },
);
const lastMove = fc.oneof(
  move("settle", [], () => undefined),
  move("close", [], (world) => world.client.close()),
  move("close when delivered", [channel], (world, name) =>
    world.application.whenDelivered(name, () => world.client.close()),
  ),
);
const moving: Move[] = [
  ["the token arrives", () => undefined],
  ["welcome", (world) => world.gateway.welcome("resume", 3_600_000)],
  ["subscribe", (world) => world.application.subscribe("board:1", true)],
  ["subscribe", (world) => world.application.subscribe("board:2", false)],
  ["answer", (world) => world.gateway.answer(0, "ok")],
  ["answer", (world) => world.gateway.answer(0, "ok")],
  ["drain", (world) => world.gateway.drain(0, 0, 60_000)],
];
const moved: Move[] = [...moving, ["welcome", (world) => world.gateway.welcome("resume", 3_600_000)]];
/** Most plays begin in the middle of a client's move: two connections, the second one perhaps ahead of the first. */
const beginning = fc.constantFrom<Move[]>([], moving, moved, [
  ...moved,
  ["publish", (world) => world.gateway.publish("board:1", 2)],
  ["answer", (world) => world.gateway.answer(0, "unrecovered")],
]);
const play = fc.tuple(beginning, fc.array(fc.tuple(anyMove, time), { minLength: 5, maxLength: 80 }), lastMove);

test("SDK-1: in any order of events each call settles once and publications have no gap or repeat", async () => {
  await fc.assert(
    fc.asyncProperty(play, async ([first, moves, [, end]]) => {
      // Timers left by a failed run would fail every later run.
      vi.clearAllTimers();
      const world = new World();
      for (const [, make] of first) {
        make(world);
        await vi.advanceTimersByTimeAsync(0);
      }
      for (const [[, make], elapsedMs] of moves) {
        make(world);
        await vi.advanceTimersByTimeAsync(elapsedMs);
        world.check();
      }
      end(world);
      await world.settle();
      world.client.close();
      // A slow token service may still answer.
      await vi.advanceTimersByTimeAsync(20_000);
      world.check();
      expect(world.client.state.status).toBe("closed");
      expect([...world.application.calls, ...world.application.subscribes].every(({ settled }) => settled === 1)).toBe(
        true,
      );
      expect(vi.getTimerCount()).toBe(0);
    }),
    { numRuns: 2_000 },
  );
});
