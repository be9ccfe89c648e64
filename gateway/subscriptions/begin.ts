import type { Position, Publication } from "../../shared/channels/contract.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import { maxChannelsPerConnection, maxReplayBytes } from "../../shared/protocol/limits.ts";
import type { SubscribeAck } from "../../shared/protocol/wire.ts";
import { type Access, Subscription } from "../channels/subscription.ts";
import type { GatewayContext } from "../node/context.ts";
import type { Session } from "../sessions/session.ts";
import { dropSubscription, endSubscription } from "./end.ts";

export interface BegunSubscription {
  subscription: Subscription;
  /** For the client, as an ack or a notice. */
  ack: Omit<SubscribeAck, "publications">;
  /** Missed since `request.from`. */
  publications: readonly Publication[];
  /** Others in the channel get a join of this session. */
  joins: boolean;
  /** MUST be called once the ack or notice is in the outbox. @param sentBytes its size. */
  goLive(sentBytes?: number): void;
}

/**
 * Begins, or replaces, a session's subscription to a channel, whether its client or a service asked for it.
 * @param request.from recover from this position.
 * @param request.authorize decides whether the session may follow the channel; throws where it may not.
 * @throws TidegateError: the session has no subscription to the channel then.
 */
export async function beginSubscription(
  session: Session,
  request: { channel: string; from?: Position | undefined; authorize: () => Access | Promise<Access> },
  context: GatewayContext,
): Promise<BegunSubscription> {
  const { channel, from } = request;
  dropSubscription(session, channel, context);
  if (session.subscriptions.size >= maxChannelsPerConnection) {
    throw new TidegateError("too_many_channels", `a connection has at most ${maxChannelsPerConnection} channels`);
  }
  const subscription = new Subscription(channel, session.outbox);
  session.subscriptions.set(channel, subscription);
  let endRead = (_bytes: number): void => undefined;
  let mayHaveRead = false;
  try {
    const access = await authorized(subscription, request.authorize);
    subscription.access = access;
    assertNotEnded(session, subscription);
    // The turn comes before the join: a subscription that has joined holds every frame of its channel.
    if (from) endRead = await session.reads.take();
    assertNotEnded(session, subscription);
    await context.channels.join(channel, subscription);
    mayHaveRead = from !== undefined;
    const { ack, publications, wastedBytes } = await recover(subscription, from, context);
    assertNotEnded(session, subscription);
    const wasAnnounced = context.presence.isAnnounced(session, channel);
    context.presence.enter(session, subscription);
    return {
      subscription,
      ack: { ...ack, ...(access.by === "grant" && { grant: access.sealed }) },
      publications,
      joins: !wasAnnounced && context.presence.isAnnounced(session, channel),
      goLive: (sentBytes = 0) => {
        context.channels.goLive(subscription, ack.position);
        endRead(sentBytes + wastedBytes);
      },
    };
  } catch (error) {
    // A subscription that ended while history was read is charged for the read, whether its client or a service ended it: a client
    // could otherwise read without limit. Where the store fails nothing was read.
    endRead(mayHaveRead && subscription.ended ? maxReplayBytes : 0);
    if (session.subscriptions.get(channel) === subscription) endSubscription(session, channel, context);
    else context.channels.leave(channel, subscription);
    throw error;
  }
}

/** A service may subscribe the session while its client's request is decided: that counts more than a refusal. */
async function authorized(subscription: Subscription, authorize: () => Access | Promise<Access>): Promise<Access> {
  try {
    return await authorize();
  } catch (error) {
    if (!subscription.access) throw error;
    return subscription.access;
  }
}

interface Recovered {
  ack: Omit<SubscribeAck, "publications" | "grant">;
  publications: readonly Publication[];
  /** Read from history, and not sent. */
  wastedBytes: number;
}

/** Where a subscription that has joined its channel begins, and what its client missed since `from`. */
async function recover(
  subscription: Subscription,
  from: Position | undefined,
  context: GatewayContext,
): Promise<Recovered> {
  const { channel } = subscription;
  const { channels, metrics } = context;
  if (!from) {
    const position = await channels.position(channel);
    subscription.settle();
    return { ack: { channel, position, recovered: false }, publications: [], wastedBytes: 0 };
  }
  const { outcome, source } = await channels.catchUp(channel, from);
  const live = await channels.position(channel);
  const reason = outcome.kind === "broken" ? outcome.reason : subscription.brokenAfter(outcome.position, live);
  metrics.recoveries.inc({ outcome: reason ?? source });
  subscription.settle();
  if (outcome.kind === "broken" || reason) {
    return {
      ack: { channel, position: live, recovered: false, ...(reason && { reason }) },
      publications: [],
      wastedBytes: source === "history" ? maxReplayBytes : 0,
    };
  }
  const { position, publications } = outcome;
  return { ack: { channel, position, recovered: true }, publications, wastedBytes: 0 };
}

function assertNotEnded(session: Session, subscription: Subscription): void {
  if (session.endedBy || subscription.ended) {
    throw new TidegateError("not_subscribed", "the subscription was ended or replaced before it began");
  }
}
