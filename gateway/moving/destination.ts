import type { FleetNode } from "../../shared/nodes/contract.ts";

/**
 * Picks the URL that each moving session is sent to: of two random nodes the one with more room, so that not every session
 * goes to the emptiest. The picker returns undefined where nodes have no URLs of their own: the balancer decides then.
 * @param ownUrl of the node that sends the sessions.
 */
export function destinationPicker(
  others: readonly FleetNode[],
  ownUrl: string | undefined,
  random: () => number = Math.random,
): () => string | undefined {
  const urls = new Set([ownUrl, ...others.map(({ url }) => url)]);
  if (urls.has(undefined) || urls.size <= others.length) return () => undefined;
  return () => {
    const one = others[Math.floor(random() * others.length)];
    const two = others[Math.floor(random() * others.length)];
    return one && two && fullness(two) < fullness(one) ? two.url : one?.url;
  };
}

/** By load factor or by connections, whichever is higher. */
function fullness({ factor, connections, maxConnections }: FleetNode): number {
  return Math.max(factor, connections / maxConnections);
}
