/** Compares the gateways that have a stream to this process: a fleet with settings that differ works in part only. */
import type { GatewayProfile, RelayHello } from "../../shared/protocol/relay.ts";
import type { Logger } from "../../shared/runtime/logging.ts";
import { PacedLog } from "../../shared/runtime/paced-log.ts";

/** Streams are renewed about every minute. */
const oneLineIn10Minutes = { capacity: 1, perSecond: 1 / 600 };
/** A node that takes so many times fewer connections than another one is set up by mistake. */
const tinyFactor = 10;

interface Named {
  node: string;
  profile: GatewayProfile;
}

export class ConnectedGateways {
  readonly #log: PacedLog;
  /** By stream. */
  readonly #gateways = new Map<object, Named>();

  constructor(logger: Logger) {
    this.#log = new PacedLog({ logger, rate: oneLineIn10Minutes });
  }

  /** Gateways of earlier versions have no profile. */
  add(stream: object, { node, gateway: profile }: RelayHello): void {
    if (!profile) return;
    const own = { node, profile };
    for (const other of this.#gateways.values()) {
      if (other.profile.instance !== profile.instance) this.#compare(own, other);
    }
    this.#gateways.set(stream, own);
  }

  remove(stream: object): void {
    this.#gateways.delete(stream);
  }

  #compare(own: Named, other: Named): void {
    const nodes = [other.node, own.node];
    const [one, two] = [other.profile, own.profile];
    if (own.node === other.node) {
      const advice = "give each gateway a GATEWAY_NODE of its own";
      this.#warn({ node: own.node, advice }, "two gateways have one name");
    }
    if (!opens(one, two) || !opens(two, one)) {
      const advice = "set RESUME_SECRET to one list on all gateways (docs/rotation.md)";
      this.#warn({ nodes, advice }, "gateways have different resume secrets: sessions do not resume across them");
    }
    const hasJwt = one.jwtSecrets.length > 0 && two.jwtSecrets.length > 0;
    if (hasJwt && !one.jwtSecrets.some((secret) => two.jwtSecrets.includes(secret))) {
      const advice = "set AUTH_JWT_SECRET to one list on all gateways (docs/rotation.md)";
      this.#warn({ nodes, advice }, "gateways have different JWT secrets: a token is valid on one of them only");
    }
    const [small, large] = one.maxConnections < two.maxConnections ? [other, own] : [own, other];
    if (small.profile.maxConnections * tinyFactor <= large.profile.maxConnections) {
      const { maxConnections } = small.profile;
      const beside = { node: large.node, maxConnections: large.profile.maxConnections };
      this.#warn(
        { node: small.node, maxConnections, beside },
        "a gateway takes far fewer connections than another one",
      );
    }
  }

  #warn(fields: Record<string, unknown>, message: string): void {
    this.#log.warn(message, fields, message);
  }
}

/** What one of them seals the other one opens. */
function opens(one: GatewayProfile, other: GatewayProfile): boolean {
  const [seals] = other.resumeSecrets;
  return seals === undefined || one.resumeSecrets.includes(seals);
}
