/** Connects to public addresses only: each address is checked right before the connection to that very address. */
import { lookup } from "node:dns";
import { isIP, type LookupFunction } from "node:net";
import { buildConnector } from "undici";
import type { InternetAddresses } from "./internet-addresses.ts";

/** `message` says which address was refused, and why. */
export class AddressRefused extends Error {
  readonly code = "ERR_ADDRESS_REFUSED";

  constructor(address: string, refusal: string) {
    super(`${address} ${refusal}: allow its network in ENDPOINT_ALLOWED_NETWORKS where it is meant`);
    this.name = "AddressRefused";
  }
}

/**
 * A name that has one refused address is refused: which of its addresses a connection takes is chance.
 * @param options.resolve instead of the system's resolver
 */
export function guardedConnector(options: {
  addresses: InternetAddresses;
  timeoutMs: number;
  resolve?: LookupFunction;
}): buildConnector.connector {
  const { addresses, timeoutMs, resolve = lookup } = options;
  /** The connection uses the addresses that it passes on, and resolves nothing again. */
  const checkedLookup: LookupFunction = (hostname, lookupOptions, callback) => {
    resolve(hostname, lookupOptions, (error, found, family) => {
      if (error) return callback(error, found, family);
      const listed = Array.isArray(found) ? found.map(({ address }) => address) : [found];
      for (const address of listed) {
        const refusal = addresses.refusal(address);
        if (refusal !== undefined) return callback(new AddressRefused(address, refusal), "");
      }
      callback(null, found, family);
    });
  };
  const connect = buildConnector({ timeout: timeoutMs, allowH2: false, lookup: checkedLookup });
  return (target, callback) => {
    const { hostname } = target;
    // A socket resolves no address: it would not ask.
    const refusal = isIP(hostname) === 0 ? undefined : addresses.refusal(hostname);
    if (refusal === undefined) connect(target, callback);
    else queueMicrotask(() => callback(new AddressRefused(hostname, refusal), null));
  };
}
