/** Client SDK of Tidegate, for browsers and Node. */
import { Client, type ClientOptions } from "./client.ts";

/**
 * Returns at once; `client.onState` tells how the connection goes. The client holds one connection, and one timer or
 * two, until `client.close()`; a second connection while it moves to another node.
 *
 * @throws {TidegateError} `invalid_request`, unless `options` have either `url` or `bootstrap`
 */
export function connect(options: ClientOptions): Client {
  return Client.connect(options);
}

export { TidegateError } from "./api/errors.ts";
export type { CallOptions, OfflineBounds } from "./api/call-options.ts";
export type { Channel, ChannelEnd, History, Presence, PublicationMeta, Subscription } from "./api/channel.ts";
export type { Client, ClientOptions, ClientState } from "./client.ts";
export type { Conflict } from "./api/conflict.ts";
export type { ErrorCode } from "./api/errors.ts";
export type {
  Bootstrap,
  JoinLeave,
  Position,
  PresenceMember,
  RecoveryReason,
  Resync,
  WirePublication,
} from "../../shared/protocol/wire.ts";
