/** What happened up to now, all nodes together. The recorder reads it each second. */
export interface Counters {
  dials: number;
  /** Handshakes that were given a place: what the budget bounds. */
  letIn: number;
  /** Of them, those that were welcomed. */
  admitted: number;
  /** Of them, by resuming. */
  resumed: number;
  /** In band. */
  refused: number;
  /** 503 at the upgrade. */
  turnedAway: number;
  /** Dials that reached nobody, handshakes that were too late or given up. */
  failed: number;
  /** Sessions that overload ended: pings came too late, or the node ran out of memory. */
  fallen: number;
  /** Sessions that a stop or a crash ended, their client having no other. */
  ended: number;
  /** Sessions that went elsewhere first. */
  moved: number;
  /** Ended at the deadline of a drain. */
  forced: number;
}

export function noCounts(): Counters {
  return {
    dials: 0,
    letIn: 0,
    admitted: 0,
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
