/** How many connections of each kind a node accepts: as many as its settings ask for, within the limit of open files. Pure. */
import type { ConnectionBounds } from "../shared/http/connections.ts";
import { reservedFiles } from "../shared/runtime/open-files.ts";

/** At least this many connections without a seat; otherwise half as many as seats. */
const minUnseated = 1_000;
/** Redis (two connections to each primary of a cluster), two to each private API, standard streams, the event loop. */
const enoughReserved = 512;
/** Health checks, scrapers, and a few operators. */
const maxAdminConnections = 100;

export interface Capacity {
  /** Seats. */
  maxConnections: number;
  /** Opened websockets without a seat. */
  maxUnseated: number;
  publicDoor: ConnectionBounds;
  adminDoor: ConnectionBounds;
  /** Open files needed for every wanted connection. */
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
    // As many again for requests, and for connections that have sent no request yet.
    publicDoor: { total: maxConnections + 2 * maxUnseated, unproven: maxUnseated },
    adminDoor: { total: admin, unproven: admin },
    wantedFiles,
  };
}
