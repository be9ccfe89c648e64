/** The SDK against a model: any order of connects, losses, answers, publications, wishes and calls. */
import fc from "fast-check";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { connectCodes } from "../../shared/protocol/codes.ts";
import { channelNames, World } from "./client-model.ts";

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "Date", "performance"] });
});
afterEach(() => {
  vi.useRealTimers();
});

type Move = readonly [name: string, make: (world: World) => void];

const channel = fc.constantFrom(...channelNames);
const refusal = fc.constantFrom(...(Object.keys(connectCodes) as (keyof typeof connectCodes)[]));
const dismissal = fc.constantFrom(
  ["draining", true] as const,
  ["token_expired", true] as const,
  ["slow_consumer", true] as const,
  ["replaced", false] as const,
  ["revoked", false] as const,
);

/** One move: what it is called in a counterexample, and what it does. */
function move<Values extends unknown[]>(
  name: string,
  values: { [Index in keyof Values]: fc.Arbitrary<Values[Index]> },
  make: (world: World, ...values: Values) => void,
): fc.Arbitrary<Move> {
  return fc
    .tuple(...values)
    .map((given) => [`${name}(${given.join(", ")})`, (world) => make(world, ...(given as Values))] as const);
}

/** After each move; mostly none, so that moves meet. */
const time = fc.oneof(
  { arbitrary: fc.constant(0), weight: 12 },
  { arbitrary: fc.constantFrom(50, 600, 1_500), weight: 6 },
  { arbitrary: fc.constantFrom(20_000, 100_000), weight: 1 },
);
const answers = fc.constantFrom("ok", "later", "never", "unrecovered", "behind");
/** The newest connection, mostly. */
const which = fc.constantFrom(0, 0, 0, 1, 1, 2);
/** No connection, mostly. */
const some = fc.constantFrom(0, 0, 0, 1, 2, 3);
const resumeToken = fc.constantFrom("resume", null);
const lifetimeMs = fc.constantFrom(1_000, 70_000, 3_600_000);
const slotMs = fc.constantFrom(0, 0, 50, 5_000);
const deadlineMs = fc.constantFrom(40, 5_000, 60_000);
const retryAfterMs = fc.constantFrom(undefined, 0, 600, 20_000);
const withinMs = fc.constantFrom(500, 30_000, 60_000);

const anyMove = fc.oneof(
  { arbitrary: move("welcome", [resumeToken, lifetimeMs], (world, ...given) => world.welcome(...given)), weight: 12 },
  { arbitrary: move("answer", [which], (world, on) => world.answer(on, "ok")), weight: 14 },
  {
    arbitrary: move("answer", [which, answers, fc.nat(3)], (world, ...given) => world.answer(...given)),
    weight: 10,
  },
  { arbitrary: move("publish", [channel, some], (world, ...given) => world.publish(...given)), weight: 12 },
  { arbitrary: move("subscribe", [channel, fc.boolean()], (world, ...given) => world.subscribe(...given)), weight: 8 },
  { arbitrary: move("call", [fc.boolean(), withinMs], (world, ...given) => world.call(...given)), weight: 8 },
  {
    arbitrary: move("drain", [which, slotMs, deadlineMs], (world, ...given) => world.drain(...given)),
    weight: 10,
  },
  { arbitrary: move("lose", [which], (world, on) => world.lose(on)), weight: 5 },
  { arbitrary: move("unsubscribe", [channel], (world, name) => world.unsubscribe(name)), weight: 4 },
  { arbitrary: move("message", [some], (world, missing) => world.message(missing)), weight: 4 },
  { arbitrary: move("ephemeral", [channel, some], (world, ...given) => world.ephemeral(...given)), weight: 4 },
  { arbitrary: move("repeatLast", [which, channel], (world, ...given) => world.repeatLast(...given)), weight: 3 },
  { arbitrary: move("subscribeFor", [which, channel], (world, ...given) => world.subscribeFor(...given)), weight: 3 },
  { arbitrary: move("resync", [which, channel], (world, ...given) => world.resync(...given)), weight: 2 },
  { arbitrary: move("loseHistory", [channel, some], (world, ...given) => world.loseHistory(...given)), weight: 2 },
  { arbitrary: move("revoke", [which, channel], (world, ...given) => world.revoke(...given)), weight: 2 },
  {
    arbitrary: move("refuse", [refusal, retryAfterMs], (world, code, waitMs) =>
      world.refuse(code, connectCodes[code].retryable, waitMs),
    ),
    weight: 4,
  },
  {
    arbitrary: move("unsubscribe when delivered", [channel], (world, name) =>
      world.whenDelivered(name, () => world.unsubscribe(name)),
    ),
    weight: 2,
  },
  {
    arbitrary: move("dismiss", [which, dismissal], (world, on, [code, reconnect]) =>
      world.dismiss(on, code, reconnect),
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
  move("close", [], (world) => world.close()),
  move("close when delivered", [channel], (world, name) => world.whenDelivered(name, () => world.close())),
);
const moving: Move[] = [
  ["the token comes", () => undefined],
  ["welcome", (world) => world.welcome("resume", 3_600_000)],
  ["subscribe", (world) => world.subscribe("board:1", true)],
  ["subscribe", (world) => world.subscribe("board:2", false)],
  ["answer", (world) => world.answer(0, "ok")],
  ["answer", (world) => world.answer(0, "ok")],
  ["drain", (world) => world.drain(0, 0, 60_000)],
];
const moved: Move[] = [...moving, ["welcome", (world) => world.welcome("resume", 3_600_000)]];
/** Most plays begin in the middle of a move: two connections, the second one perhaps ahead of the first. */
const beginning = fc.constantFrom<Move[]>([], moving, moved, [
  ...moved,
  ["publish", (world) => world.publish("board:1", 2)],
  ["answer", (world) => world.answer(0, "unrecovered")],
]);
const play = fc.tuple(beginning, fc.array(fc.tuple(anyMove, time), { minLength: 5, maxLength: 80 }), lastMove);

test("SDK-1: whatever happens: each wish and call answered once, publications in order without gap or repeat, also while it moves, closed for good", async () => {
  await fc.assert(
    fc.asyncProperty(play, async ([first, moves, [, end]]) => {
      // What a run that failed has left would fail all others.
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
      world.close();
      // A token service that is slow may still answer.
      await vi.advanceTimersByTimeAsync(20_000);
      world.check();
      expect(world.client.state.status).toBe("closed");
      expect([...world.calls, ...world.wishes].every(({ settled }) => settled === 1)).toBe(true);
      expect(vi.getTimerCount()).toBe(0);
    }),
    { numRuns: 2_000 },
  );
});
