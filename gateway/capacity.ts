/** How many connections of each kind a node has room for: what its settings ask for, as far as the limit of open files goes. Pure. */
import type { ConnectionBounds } from "../shared/http/connections.ts";
import { reservedFiles } from "../shared/runtime/open-files.ts";

/** Connections without a seat are bounded by a part of those with one, and this at least. */
const minUnseated = 1_000;
/** Redis, of a cluster each primary twice; each private API twice; standard streams and the event loop's own. */
const enoughReserved = 512;
/** Health checks, scrapers, and an operator or two. */
const maxAdminConnections = 100;

export interface Capacity {
  /** Seats. */
  maxConnections: number;
  /** Opened websockets without a seat. */
  maxUnseated: number;
  publicDoor: ConnectionBounds;
  adminDoor: ConnectionBounds;
  /** Open files that all of it needs where nothing is cut. */
  wantedFiles: number;
}

export function capacityOf(wantedConnections: number, filesLimit: number): Capacity {
  const wantedUnseated = Math.max(minUnseated, Math.floor(wantedConnections / 2));
  const wantedFiles = wantedConnections + 2 * wantedUnseated + maxAdminConnections + enoughReserved;
  const admin = Math.min(maxAdminConnections, Math.floor(filesLimit / 8));
  const available = filesLimit - reservedFiles(filesLimit, enoughReserved) - admin;
  const maxConnections = Math.min(wantedConnections, Math.floor((available * 2) / 3));
  const maxUnseated = Math.min(wantedUnseated, Math.floor((available - maxConnections) / 2));
  return {
    maxConnections,
    maxUnseated,
    // As many again for requests, and for connections that have not said yet what they want.
    publicDoor: { total: maxConnections + 2 * maxUnseated, unproven: maxUnseated },
    adminDoor: { total: admin, unproven: admin },
    wantedFiles,
  };
}
