import type { Position } from "../../../shared/protocol/wire.ts";
import type { Requester } from "../calls/requester.ts";
import { advance } from "./position.ts";
import type { SubscribeRequest } from "./subscribe-request.ts";

/** What one connection delivers of one channel. */
export class ChannelStream {
  readonly connection: Requester;
  /** The request that the gateway granted last on this connection. */
  granted: SubscribeRequest | null = null;
  /** The last publication on this connection, delivered to the application or not. */
  position: Position | null = null;

  constructor(connection: Requester) {
    this.connection = connection;
  }

  /** The application still wants what the gateway granted. */
  get live(): boolean {
    return this.granted !== null && !this.granted.withdrawn;
  }

  advance(offset: number): void {
    if (this.position) this.position = advance(this.position, offset) ?? this.position;
  }
}
