/** Events of the run so far, over all nodes. */
export interface Counters {
  dials: number;
  /** Handshakes that left the line: what the budget bounds. */
  admitted: number;
  /** Clients welcomed. */
  welcomed: number;
  /** Clients welcomed that resumed their session. */
  resumed: number;
  /** Refused handshakes. */
  refused: number;
  /** Dials answered 503 at the upgrade. */
  turnedAway: number;
  /** Dials without a node, handshakes that took too long or were given up. */
  failed: number;
  /** Sessions that ended by overload: late pings, or a node out of memory. */
  fallen: number;
  /** Sessions that ended by a stop or a crash while the client had no other connection. */
  ended: number;
  /** Sessions that connected to another node before they left. */
  moved: number;
  /** Sessions that the deadline of a drain ended. */
  forced: number;
}

export function noCounts(): Counters {
  return {
    dials: 0,
    admitted: 0,
    welcomed: 0,
    resumed: 0,
    refused: 0,
    turnedAway: 0,
    failed: 0,
    fallen: 0,
    ended: 0,
    moved: 0,
    forced: 0,
  };
}
