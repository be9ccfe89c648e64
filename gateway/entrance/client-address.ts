/** The address of a client, behind any number of proxies. The only file that knows the proxy-addr library. */
import type { IncomingMessage } from "node:http";
import { isIP } from "node:net";
import proxyAddress from "@fastify/proxy-addr";

export type ProxyTrust = (address: string, distance: number) => boolean;

/**
 * @param networks addresses, networks such as `10.0.0.0/8`, or `loopback`, `linklocal`, `uniquelocal`.
 * @throws with the entry that is none of these.
 */
export function trustedProxies(networks: readonly string[]): ProxyTrust {
  return networks.length === 0 ? () => false : proxyAddress.compile([...networks]);
}

/**
 * The nearest address that is not a trusted proxy's. Reads `X-Forwarded-For` from the right, and only the entries that trusted
 * proxies wrote. A proxy that wrote no address (`unknown`) counts with its own.
 */
export function clientAddress(
  { headers, socket }: Pick<IncomingMessage, "headers" | "socket">,
  trust: ProxyTrust,
): string {
  const entries = String(headers["x-forwarded-for"] ?? "").split(",");
  let address = socket.remoteAddress ?? "";
  for (let distance = 0; trust(address, distance); distance++) {
    const next = addressIn(lastEntry(entries));
    if (next === undefined) break;
    address = next;
  }
  return address;
}

/** Removes the last entry, and empty ones after it. */
function lastEntry(entries: string[]): string {
  let entry = "";
  while (entry === "" && entries.length > 0) entry = entries.pop()?.trim() ?? "";
  return entry;
}

/** Proxies write an address with or without the client's port, IPv6 with or without brackets. */
function addressIn(entry: string): string | undefined {
  const [, bracketed, plain = entry] = /^\[([^\]]*)\](?::\d+)?$|^([\d.]+):\d+$/.exec(entry) ?? [];
  const address = bracketed ?? plain;
  return isIP(address) > 0 ? address : undefined;
}
