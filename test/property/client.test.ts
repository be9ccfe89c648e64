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
const answers = fc.constantFrom("ok", "later", "never", "unrecovered");
const resumeToken = fc.constantFrom("resume", null);
const lifetimeMs = fc.constantFrom(1_000, 70_000, 3_600_000);
const withinMs = fc.constantFrom(500, 30_000, 60_000);

const anyMove = fc.oneof(
  { arbitrary: move("welcome", [resumeToken, lifetimeMs], (world, ...given) => world.welcome(...given)), weight: 12 },
  { arbitrary: move("answer", [], (world) => world.answer("ok")), weight: 12 },
  { arbitrary: move("answer", [answers, fc.nat(3)], (world, ...given) => world.answer(...given)), weight: 10 },
  { arbitrary: move("publish", [channel], (world, name) => world.publish(name)), weight: 10 },
  { arbitrary: move("subscribe", [channel, fc.boolean()], (world, ...given) => world.subscribe(...given)), weight: 8 },
  { arbitrary: move("call", [fc.boolean(), withinMs], (world, ...given) => world.call(...given)), weight: 8 },
  { arbitrary: move("lose", [], (world) => world.lose()), weight: 5 },
  { arbitrary: move("unsubscribe", [channel], (world, name) => world.unsubscribe(name)), weight: 4 },
  { arbitrary: move("repeatLast", [channel], (world, name) => world.repeatLast(name)), weight: 3 },
  { arbitrary: move("subscribeFor", [channel], (world, name) => world.subscribeFor(name)), weight: 3 },
  { arbitrary: move("resync", [channel], (world, name) => world.resync(name)), weight: 2 },
  { arbitrary: move("revoke", [channel], (world, name) => world.revoke(name)), weight: 2 },
  {
    arbitrary: move("refuse", [refusal], (world, code) => world.refuse(code, connectCodes[code].retryable)),
    weight: 4,
  },
  {
    arbitrary: move("unsubscribe when delivered", [channel], (world, name) =>
      world.whenDelivered(name, () => world.unsubscribe(name)),
    ),
    weight: 2,
  },
  {
    arbitrary: move("dismiss", [dismissal], (world, [code, reconnect]) => world.dismiss(code, reconnect)),
    weight: 1,
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
const play = fc.tuple(fc.array(fc.tuple(anyMove, time), { minLength: 5, maxLength: 80 }), lastMove);

test("SDK-1: whatever happens: one connection at most, each wish and call answered once, publications in order without gap or repeat, closed for good", async () => {
  await fc.assert(
    fc.asyncProperty(play, async ([moves, [, end]]) => {
      const world = new World();
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
    { numRuns: 1_000 },
  );
});
