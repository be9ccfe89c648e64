/** Connects to public addresses only: each address is checked right before the connection to that very address. */
import { lookup } from "node:dns";
import { isIP, type LookupFunction, type Socket } from "node:net";
import { buildConnector } from "undici";
import { BoundedLookups } from "./bounded-lookups.ts";
import type { InternetAddresses } from "./internet-addresses.ts";

/**
 * A connection may bring so many bytes, and so many more for each byte that was sent over it: several times what is read of answers, whatever
 * their framing. What the HTTP parser skips, such as empty lines and the extensions of chunks, counts as well.
 */
const maxReceived = { bytes: 256 * 1024, perByteSent: 512 };

/** `message` says which address was refused, and why. */
export class AddressRefused extends Error {
  readonly code = "ERR_ADDRESS_REFUSED";

  constructor(address: string, refusal: string) {
    super(`${address} ${refusal}: allow its network in ENDPOINT_ALLOWED_NETWORKS where it is meant`);
    this.name = "AddressRefused";
  }
}

/** The other side sends without an end. */
class FloodRefused extends Error {
  readonly code = "ERR_FLOOD";

  constructor() {
    super("the other side sends far more than an answer");
    this.name = "FloodRefused";
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
  const lookups = new BoundedLookups({ resolve, maxWaitMs: timeoutMs });
  /** The connection uses the addresses that it passes on, and resolves nothing again. */
  const checkedLookup: LookupFunction = (hostname, lookupOptions, callback) => {
    lookups.lookup(hostname, lookupOptions, (error, found, family) => {
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
    if (refusal !== undefined) queueMicrotask(() => callback(new AddressRefused(hostname, refusal), null));
    else {
      connect(target, (...opened) => {
        const [, socket] = opened;
        if (socket) boundReceived(socket);
        callback(...opened);
      });
    }
  };
}

function boundReceived(socket: Socket): void {
  let allowed = maxReceived.bytes;
  socket.on("readable", () => {
    if (socket.bytesRead <= allowed) return;
    allowed = maxReceived.bytes + maxReceived.perByteSent * socket.bytesWritten;
    if (socket.bytesRead > allowed) socket.destroy(new FloodRefused());
  });
}
