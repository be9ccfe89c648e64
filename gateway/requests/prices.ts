/**
 * The price of each request that the gateway answers itself. A unit is about 0.1 ms of one core, of the node and of Redis
 * together. `ReadTurns` spreads large answers over time.
 */
import type { clientRequests } from "../../shared/protocol/client-messages.ts";
import { maxChannelsPerConnection } from "../../shared/protocol/limits.ts";

export const prices = {
  "sync:subscribe": 2,
  "sync:unsubscribe": 2,
  /** A read of Redis; presence returns up to 200 members. */
  "sync:history": 10,
  "sync:presence": 10,
  /** Verifies a signature and seals up to 200 grants. A client needs one per token. */
  "sync:refresh": 1_000,
} satisfies Record<keyof typeof clientRequests, number>;

/** Any other event with the reserved prefix. */
export const unknownRequestPrice = 1;

/** A join or leave notifies every session in the channel: up to 200, on any node. */
export const announcementPrice = 10;

/**
 * A client that reconnects may subscribe to all of its channels at once, with a join in each, and request their presence
 * and history. After that it may use about 3 % of a core.
 */
export const requestBudget = {
  capacity:
    maxChannelsPerConnection *
    (prices["sync:subscribe"] + announcementPrice + prices["sync:presence"] + prices["sync:history"]),
  perSecond: 200,
};

/** Requests of one session that wait for an answer: a client may send three for each of its channels at once. */
export const maxOpenRequests = 3 * maxChannelsPerConnection;
