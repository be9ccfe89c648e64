/** What an attack is, what it is given, and what it counts. */
import { setMaxListeners } from "node:events";
import { SignJWT } from "jose";
import type { DialOptions } from "../../test/support/raw-websocket.ts";

/** What an attacker must have. `nothing`: anyone who reaches the port. */
export type Need = "nothing" | "client token" | "API token" | "service";

export interface Attack {
  readonly name: string;
  /** One clause for the reader of a report. */
  readonly does: string;
  readonly needs: Need;
  /** Settings of the gateway without which there is nothing to attack. */
  readonly gatewaySettings?: Readonly<Record<string, string>>;
  /** Bound of open file descriptors of each program. */
  readonly descriptors?: number;
  /** Where the attack is in the number: connections for each one that was asked for. */
  readonly connectionsEach?: number;
  /** Before the measured time. */
  readonly prepare?: (target: Target) => Promise<void>;
  /** Goes on until `load.signal` aborts, whatever the other side does. */
  readonly run: (target: Target, load: Load) => Promise<void>;
}

/** What is attacked. */
export interface TargetAddresses {
  readonly gateway: string;
  readonly admin: string;
  readonly api: string;
  readonly jwtSecret: string;
  /** With the scopes `publish`, `rules` and `read`. */
  readonly apiToken: string;
}

export class Target {
  readonly gateway: URL;
  readonly admin: URL;
  readonly api: URL;
  readonly apiToken: string;
  readonly #key: Uint8Array;

  constructor({ gateway, admin, api, jwtSecret, apiToken }: TargetAddresses) {
    [this.gateway, this.admin, this.api] = [new URL(gateway), new URL(admin), new URL(api)];
    this.apiToken = apiToken;
    this.#key = new TextEncoder().encode(jwtSecret);
  }

  /** A token that the deployment's own issuer could have made. */
  async clientToken(claims: Readonly<Record<string, unknown>> = {}): Promise<string> {
    const expiresAt = Math.floor(Date.now() / 1_000) + 3_600;
    return new SignJWT({ sub: "attacker", exp: expiresAt, channels: [`${attackedNamespace}:*`], ...claims })
      .setProtectedHeader({ alg: "HS256" })
      .sign(this.#key);
  }
}

/** The honest clients and the attackers use channels of one namespace. */
export const attackedNamespace = "attack";

export interface Tally {
  /** Frames of a websocket, or HTTP requests; connections where an attack sends neither. */
  sent: number;
  bytes: number;
  connections: number;
  /** Connections that were refused or ended before they could be used. */
  refused: number;
  /** HTTP answers by status. */
  statuses: Record<string, number>;
}

/** How hard and how long an attack runs, and what came of it. */
export class Load {
  readonly connections: number;
  readonly signal: AbortSignal;
  readonly dial: DialOptions;
  readonly tally: Tally;

  /** @param options.localAddress where attackers connect from: bounds by address must not meet the honest clients. */
  constructor(options: { connections: number; signal: AbortSignal; localAddress?: string | undefined; tally?: Tally }) {
    const { connections, signal, localAddress } = options;
    this.connections = connections;
    this.signal = signal;
    this.tally = options.tally ?? { sent: 0, bytes: 0, connections: 0, refused: 0, statuses: {} };
    setMaxListeners(0, signal);
    this.dial = { signal, ...(localAddress !== undefined && { localAddress }) };
  }

  /** Fewer connections of the same attack. */
  part(connections: number): Load {
    const { signal, tally } = this;
    return new Load({ connections, signal, tally, localAddress: this.dial.localAddress });
  }

  get over(): boolean {
    return this.signal.aborted;
  }

  sent(count: number, bytes: number): void {
    this.tally.sent += count;
    this.tally.bytes += bytes;
  }
}
