/** Where a client is, behind whatever proxies: the one place that knows the library. */
import type { IncomingMessage } from "node:http";
import { isIP } from "node:net";
import proxyAddress from "@fastify/proxy-addr";

export type ProxyTrust = (address: string, distance: number) => boolean;

/**
 * @param networks addresses, or networks as `10.0.0.0/8`, or `loopback`, `linklocal`, `uniquelocal`.
 * @throws naming the one that is none.
 */
export function trustedProxies(networks: readonly string[]): ProxyTrust {
  return networks.length === 0 ? () => false : proxyAddress.compile([...networks]);
}

/**
 * The nearest address that is not a trusted proxy's: `X-Forwarded-For` is read from the right, and only what trusted proxies
 * wrote. Where one wrote no address (`unknown`), its own is the nearest that is known.
 */
export function clientAddress({ headers, socket }: IncomingMessage, trust: ProxyTrust): string {
  const entries = String(headers["x-forwarded-for"] ?? "").split(",");
  let address = socket.remoteAddress ?? "";
  for (let distance = 0; trust(address, distance); distance++) {
    const next = addressIn(lastEntry(entries));
    if (next === undefined) break;
    address = next;
  }
  return address;
}

/** Removes it. Empty entries say nothing. */
function lastEntry(entries: string[]): string {
  let entry = "";
  while (entry === "" && entries.length > 0) entry = entries.pop()?.trim() ?? "";
  return entry;
}

/** Proxies write an address alone, with the client's port, and IPv6 in brackets or without. */
function addressIn(entry: string): string | undefined {
  const [, bracketed, plain = entry] = /^\[([^\]]*)\](?::\d+)?$|^([\d.]+):\d+$/.exec(entry) ?? [];
  const address = bracketed ?? plain;
  return isIP(address) > 0 ? address : undefined;
}
