import { RawClient } from "../../test/support/raw-client.ts";
import { loadToken } from "./load-token.ts";

/** Connects a client that may follow every channel `load:*` to node `node` (from 0). The caller destroys its socket. */
export async function connectReader(
  { gatewayUrls, jwtSecret }: { readonly gatewayUrls: readonly string[]; readonly jwtSecret: string },
  node: number,
): Promise<RawClient> {
  const token = await loadToken(jwtSecret, "load", { channels: ["load:*"] });
  return RawClient.connect(new URL(gatewayUrls[node % gatewayUrls.length]?.replace("ws", "http") ?? ""), token);
}
