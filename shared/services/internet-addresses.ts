/** Protects against SSRF: a request to an endpoint reaches the public internet, and networks that the operator allows. */
import { BlockList, isIP } from "node:net";

type Family = "ipv4" | "ipv6";
type Network = readonly [address: string, prefix: number];

/** Every network that is not public, with what it is. Metadata services are in link-local, shared and unique local networks. */
const closedNetworks: Readonly<Record<Family, readonly (readonly [kind: string, ...networks: Network[]])[]>> = {
  ipv4: [
    ["unspecified", ["0.0.0.0", 8]],
    ["private", ["10.0.0.0", 8], ["172.16.0.0", 12], ["192.168.0.0", 16]],
    ["shared by a carrier (CGNAT)", ["100.64.0.0", 10]],
    ["loopback", ["127.0.0.0", 8]],
    ["link-local", ["169.254.0.0", 16]],
    // The host of an Azure machine.
    ["of a metadata service", ["168.63.129.16", 32]],
    ["reserved for protocols", ["192.0.0.0", 24], ["192.88.99.0", 24]],
    ["for documentation", ["192.0.2.0", 24], ["198.51.100.0", 24], ["203.0.113.0", 24]],
    ["for benchmarks", ["198.18.0.0", 15]],
    ["multicast", ["224.0.0.0", 4]],
    ["broadcast", ["255.255.255.255", 32]],
    ["reserved", ["240.0.0.0", 4]],
  ],
  ipv6: [
    ["unspecified", ["::", 128]],
    ["loopback", ["::1", 128]],
    ["IPv4-mapped", ["::ffff:0:0", 96]],
    ["IPv4-translated", ["::ffff:0:0:0", 96]],
    ["IPv4-compatible", ["::", 96]],
    ["NAT64", ["64:ff9b::", 96], ["64:ff9b:1::", 48]],
    ["for discarding", ["100::", 64]],
    ["Teredo", ["2001::", 32]],
    ["reserved for protocols", ["2001::", 23]],
    ["for documentation", ["2001:db8::", 32], ["3fff::", 20]],
    ["6to4", ["2002::", 16]],
    ["unique local", ["fc00::", 7]],
    ["link-local", ["fe80::", 10]],
    ["site-local", ["fec0::", 10]],
    ["multicast", ["ff00::", 8]],
  ],
};

const closed = {
  ipv4: closedNetworks.ipv4.map(([kind, ...networks]) => ({ kind, list: listOf("ipv4", networks) })),
  ipv6: closedNetworks.ipv6.map(([kind, ...networks]) => ({ kind, list: listOf("ipv6", networks) })),
} satisfies Record<Family, unknown>;
/** What IANA has given out to the internet; everything else is reserved. */
const globalIpv6 = listOf("ipv6", [["2000::", 3]]);

export class InternetAddresses {
  readonly #allowed: Readonly<Record<Family, BlockList>>;

  /** @param allowed networks that are reached although they are not public: valid ones ({@link parseNetwork}) */
  constructor(allowed: readonly string[] = []) {
    const networks = allowed.map(parseNetwork).filter((network) => network !== undefined);
    const of = (family: Family): BlockList =>
      listOf(
        family,
        networks.filter(([address]) => familyOf(address) === family),
      );
    this.#allowed = { ipv4: of("ipv4"), ipv6: of("ipv6") };
  }

  /** @returns what speaks against the address; undefined: it may be reached. */
  refusal(address: string): string | undefined {
    const family = familyOf(address);
    if (!family || address.includes("%")) return "is no address of the internet";
    if (this.#allowed[family].check(address, family)) return undefined;
    const found = closed[family].find(({ list }) => list.check(address, family));
    if (found) return `is ${found.kind}`;
    return family === "ipv6" && !globalIpv6.check(address, family) ? "is reserved" : undefined;
  }
}

/** @param text an address, or a network such as `10.1.0.0/16`. @returns undefined for anything else. */
export function parseNetwork(text: string): Network | undefined {
  const [, address = "", prefix] = /^([^/%]+)(?:\/(\d{1,3}))?$/.exec(text) ?? [];
  const family = familyOf(address);
  if (!family) return undefined;
  const bits = family === "ipv4" ? 32 : 128;
  const length = prefix === undefined ? bits : Number(prefix);
  return length <= bits ? [address, length] : undefined;
}

function familyOf(address: string): Family | undefined {
  const version = isIP(address);
  if (version === 0) return undefined;
  return version === 4 ? "ipv4" : "ipv6";
}

function listOf(family: Family, networks: readonly Network[]): BlockList {
  const list = new BlockList();
  for (const [address, prefix] of networks) list.addSubnet(address, prefix, family);
  return list;
}
