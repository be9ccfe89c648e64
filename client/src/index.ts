/** Client SDK of Tidegate, for browsers and Node. */
import { Client, type ClientOptions } from "./client.ts";

/**
 * Begins to connect and returns at once; `client.onState` reports progress. Until `client.close()` the client holds one
 * connection, two during a move to another node, and at most a few timers.
 *
 * @throws {TidegateError} `invalid_request`, unless `options` set a token and exactly one of `url`, which is an origin, and
 *   `bootstrap`
 */
export function connect(options: ClientOptions): Client {
  return Client.connect(options);
}

export { TidegateError } from "./api/errors.ts";
export type { CallOptions, OfflineBounds } from "./api/call-options.ts";
export type {
  Channel,
  ChannelEnd,
  History,
  Presence,
  PublicationMeta,
  SubscribeOptions,
  Subscription,
} from "./api/channel.ts";
export type { Client, ClientOptions } from "./client.ts";
export type { ClientState } from "./api/client-state.ts";
export type { Conflict } from "./api/conflict.ts";
export type { ErrorCode } from "./api/errors.ts";
export type {
  Bootstrap,
  JoinLeave,
  Position,
  PresenceMember,
  QueuedAck,
  RecoveryReason,
  Resync,
  WirePublication,
} from "../../shared/protocol/wire.ts";
