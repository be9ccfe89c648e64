import type { Position } from "../../../shared/protocol/wire.ts";
import type { GatewayConnection } from "../connection/connection.ts";
import { advance } from "./position.ts";
import type { Wish } from "./wish.ts";

/** What the gateway holds for one channel on one connection. */
export class Hold {
  readonly connection: GatewayConnection;
  /** The wish that the gateway last granted on this connection. */
  granted: Wish | null = null;
  /** How far the connection has brought the channel, whether that counted or not. */
  at: Position | null = null;

  constructor(connection: GatewayConnection) {
    this.connection = connection;
  }

  /** The connection has brought that publication. */
  passed(offset: number): void {
    if (this.at) this.at = advance(this.at, offset) ?? this.at;
  }
}
