/** A session that was ended, and whose client has not read the notice yet. */
import { expect, test } from "vitest";
import type { Access } from "../../gateway/channels/subscription.ts";
import { subscribe } from "../../gateway/commands/subscribe.ts";
import type { GatewayContext } from "../../gateway/node/context.ts";
import { eventFrame } from "../../gateway/outbox/frames.ts";
import type { Session } from "../../gateway/sessions/session.ts";
import { beginSubscription } from "../../gateway/subscriptions/begin.ts";
import { bareSession } from "../support/bare-session.ts";

const channel = "room:1";

function setUp(): { session: Session; context: GatewayContext; entered: string[]; work: Promise<unknown>[] } {
  const entered: string[] = [];
  const work: Promise<unknown>[] = [];
  const context = {
    channels: {
      join: async () => undefined,
      leave: () => undefined,
      goLive: () => undefined,
      position: async () => ({ epoch: "e", offset: 0 }),
    },
    presence: { isAnnounced: () => false, enter: () => entered.push(channel), leave: () => undefined },
    errors: { contain: (_kind: string, begin: () => Promise<unknown>) => work.push(begin()) },
    grants: { seal: () => "sealed" },
    sessionStore: { now: () => 0 },
  } as unknown as GatewayContext;
  const session = bareSession("s", "ada", { write: () => undefined });
  session.welcome(eventFrame("sync:welcome", {}));
  return { session, context, entered, work };
}

test("USR-2: a subscribe that is decided after the session was ended makes its user present nowhere", async () => {
  const { session, context, entered } = setUp();
  const { promise: decision, resolve: decide } = Promise.withResolvers<Access>();
  const begun = beginSubscription(session, { channel, authorize: async () => decision }, context);
  session.end("disconnected", "banned", { reconnect: false });
  decide({ by: "token" });
  await expect(begun).rejects.toMatchObject({ code: "not_subscribed" });
  expect(entered).toEqual([]);
  session.dispose();
});

test("USR-6: a service subscribes a session only until it was ended", async () => {
  const { session, context, entered, work } = setUp();
  subscribe([session], { kind: "subscribe", channel }, context);
  await Promise.all(work);
  expect(entered).toEqual([channel]);
  session.subscriptions.clear();
  session.end("disconnected", "banned", { reconnect: false });
  subscribe([session], { kind: "subscribe", channel }, context);
  await Promise.all(work);
  expect(entered).toEqual([channel]);
  session.dispose();
});
