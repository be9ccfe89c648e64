/**
 * What the gateway's own requests cost their session. A unit is about 0.1 ms of one core, of the node and of Redis together.
 * Large answers take longer: `ReadTurns` spreads them over time.
 */
import type { clientRequests } from "../../shared/protocol/client-messages.ts";
import { maxChannelsPerConnection } from "../../shared/protocol/limits.ts";

export const prices = {
  "sync:subscribe": 2,
  "sync:unsubscribe": 2,
  /** A read of Redis; that of presence brings up to 200 members. */
  "sync:history": 10,
  "sync:presence": 10,
  /** Checks a signature and seals up to 200 grants. A client needs it once in the life of its token. */
  "sync:refresh": 1_000,
} satisfies Record<keyof typeof clientRequests, number>;

/** An event that is none of these. */
export const unknownRequestPrice = 1;

/** A join or a leave that is told to everybody in the channel: up to 200 sessions, on any node. */
export const announcementPrice = 10;

/**
 * A client that reconnects may subscribe to all of its channels at once, each of which announces it, and ask for their
 * presence and history. After that it may use about 3 % of a core.
 */
export const requestBudget = {
  capacity:
    maxChannelsPerConnection *
    (prices["sync:subscribe"] + announcementPrice + prices["sync:presence"] + prices["sync:history"]),
  perSecond: 200,
};

/** Of one session, without an answer yet: what a client asks about all of its channels at once. */
export const maxOpenRequests = 3 * maxChannelsPerConnection;
