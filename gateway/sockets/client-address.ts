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

/** The nearest address that is not a trusted proxy's: `X-Forwarded-For` is read from the right, and only where such a one wrote it. */
export function clientAddress(request: IncomingMessage, trust: ProxyTrust): string {
  const address = proxyAddress(request, trust);
  return isIP(address) > 0 ? address : (request.socket.remoteAddress ?? "");
}
