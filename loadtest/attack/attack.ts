/** An attack, its target, its load and its tally. */
import { setMaxListeners } from "node:events";
import { SignJWT } from "jose";
import type { DialOptions } from "../../test/support/raw-websocket.ts";

/** What an attacker needs. `nothing`: access to the port. */
export type Need = "nothing" | "client token" | "API token" | "service";

export interface Attack {
  readonly name: string;
  /** One clause for the report. */
  readonly does: string;
  readonly needs: Need;
  /** Settings of the gateway that the attack requires. */
  readonly gatewaySettings?: Readonly<Record<string, string>>;
  /** Limit of open file descriptors of each program. */
  readonly descriptors?: number;
  /** Connections for each one of --connections, for attacks by number. */
  readonly connectionsEach?: number;
  /** Runs before the measured time. */
  readonly prepare?: (target: Target) => Promise<void>;
  /** Attacks until `load.signal` aborts, whatever the other side does. */
  readonly run: (target: Target, load: Load) => Promise<void>;
}

/** The addresses and secrets of the attacked deployment. */
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

  /** A token as the deployment's issuer would sign it. */
  async clientToken(claims: Readonly<Record<string, unknown>> = {}): Promise<string> {
    const expiresAt = Math.floor(Date.now() / 1_000) + 3_600;
    return new SignJWT({ sub: "attacker", exp: expiresAt, channels: [`${attackedNamespace}:*`], ...claims })
      .setProtectedHeader({ alg: "HS256" })
      .sign(this.#key);
  }
}

/** The namespace of the channels of honest clients and attackers. */
export const attackedNamespace = "attack";

export interface Tally {
  /** Websocket frames or HTTP requests; connections where an attack sends neither. */
  sent: number;
  bytes: number;
  connections: number;
  /** Connections that were refused or ended before use. */
  refused: number;
  /** HTTP answers by status. */
  statuses: Record<string, number>;
}

/** How hard and how long an attack runs, and its tally. */
export class Load {
  readonly connections: number;
  readonly signal: AbortSignal;
  readonly dial: DialOptions;
  readonly tally: Tally;

  /** @param options.localAddress of the attackers: limits by address must not affect the honest clients */
  constructor(options: { connections: number; signal: AbortSignal; localAddress?: string | undefined; tally?: Tally }) {
    const { connections, signal, localAddress } = options;
    this.connections = connections;
    this.signal = signal;
    this.tally = options.tally ?? { sent: 0, bytes: 0, connections: 0, refused: 0, statuses: {} };
    setMaxListeners(0, signal);
    this.dial = { signal, ...(localAddress !== undefined && { localAddress }) };
  }

  /** A part of the connections of the same attack. */
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
