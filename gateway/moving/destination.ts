import type { FleetNode } from "../../shared/nodes/contract.ts";

/**
 * Where sessions are sent, if nodes have addresses of their own: each time of two nodes at random the one with more room, so
 * that not everybody goes to the emptiest. Undefined: the balancer decides.
 * @param ownUrl of the node that sends them.
 */
export function destinationsAmong(
  others: readonly FleetNode[],
  ownUrl: string | undefined,
  random: () => number = Math.random,
): () => string | undefined {
  const urls = new Set([ownUrl, ...others.map(({ url }) => url)]);
  if (urls.has(undefined) || urls.size <= others.length) return () => undefined;
  return () => {
    const one = others[Math.floor(random() * others.length)];
    const two = others[Math.floor(random() * others.length)];
    return one && two && fill(two) < fill(one) ? two.url : one?.url;
  };
}

/** Whatever the node has least of. */
function fill({ factor, connections, maxConnections }: FleetNode): number {
  return Math.max(factor, connections / maxConnections);
}
