/** The claim of a session whose begin took long. */
import { expect, type Mock, test, vi } from "vitest";
import { beginSession } from "../../gateway/entrance/begin-session.ts";
import { endSession } from "../../gateway/entrance/end-session.ts";
import type { GatewayContext } from "../../gateway/node/context.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import { eventually } from "../support/eventually.ts";
import { bareSession } from "../support/bare-session.ts";

/**
 * The answer about the user's topic comes when the test says so.
 * @param claimed replaces the store's answer to the claim.
 */
function setUp(claimed?: Promise<never>): {
  context: GatewayContext;
  followed: () => void;
  claims: string[];
  noticeClaim: Mock<() => void>;
} {
  const { promise, resolve: followed } = Promise.withResolvers<void>();
  const claims: string[] = [];
  const noticeClaim = vi.fn<() => void>();
  const context = {
    sessions: { add: async () => promise, remove: () => undefined, ofUser: () => [], noticeClaim },
    presence: { leaveAll: () => undefined },
    metrics: { resumes: { inc: () => undefined } },
    sessionStore: { now: () => 3 },
    holdings: {
      markIncomplete: () => undefined,
      claim: async ({ mode }: { mode: string }) => {
        claims.push(mode);
        await claimed;
        return { kind: "held", claim: 2, checkedAt: 2, withdrawn: new Map(), tookOver: true };
      },
    },
  } as unknown as GatewayContext;
  return { context, followed, claims, noticeClaim };
}

const last = { claim: 1, checkedAt: 1 };

test("CON-8: a node that was frozen past the deadline of a connection takes its session from no other node", async () => {
  const { context, followed, claims } = setUp();
  const session = bareSession("s");
  const begun = beginSession(session, { last, deadline: performance.now() + 8_000 }, context);
  const running = performance.now.bind(performance);
  const clock = vi.spyOn(performance, "now").mockImplementation(() => running() + 60_000);
  followed();
  expect(await begun).toMatchObject({ kind: "refused", refusal: { code: "auth_unavailable", retryable: true } });
  expect(claims).toEqual([]);
  clock.mockRestore();
  session.dispose();
});

test("RES-1: a connection that has closed claims nothing: its client may have resumed elsewhere", async () => {
  const { context, followed, claims } = setUp();
  const session = bareSession("s");
  const begun = beginSession(session, { last, deadline: performance.now() + 8_000 }, context);
  endSession(session, false, context);
  followed();
  expect((await begun).kind).toBe("refused");
  expect(claims).toEqual([]);
});

test("RES-1: a connection that closes before its claim fails takes its session from no other one", async () => {
  const { promise: answer, reject: fail } = Promise.withResolvers<never>();
  const { context, followed, claims, noticeClaim } = setUp(answer);
  const session = bareSession("s");
  const begun = beginSession(session, { last, deadline: performance.now() + 8_000 }, context);
  followed();
  await eventually(() => claims.length === 1);
  endSession(session, false, context);
  fail(new TidegateError("broker_unavailable", "no answer"));
  expect((await begun).kind).toBe("refused");
  expect(noticeClaim).not.toHaveBeenCalled();
});

test("RES-1: a connection that is in time claims its session", async () => {
  const { context, followed, claims } = setUp();
  const session = bareSession("s");
  const begun = beginSession(session, { last, deadline: performance.now() + 8_000 }, context);
  followed();
  await eventually(() => claims.length === 1);
  expect([(await begun).kind, claims]).toEqual(["begun", ["resume"]]);
  session.dispose();
});
