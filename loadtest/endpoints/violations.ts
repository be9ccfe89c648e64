/** The ways to break the contract of the change log's readers: endpoints and pulls. */
export const violationKinds = {
  missing: "a change of the log never reached the reader",
  inverted: "a change came before an earlier one of its key was taken",
  doubled: "more changes came again than the faults explain",
  changed: "a change came again with another id or body, or at another place than the log has it",
  sequenceBroken: "tidegate-sequence did not grow with a new change of the key",
  unsigned: "a request had no valid signature",
  unknown: "a change that the log does not have",
  sockets: "a client on a socket saw something else, as the checker's own verdict says",
} as const;

export type ViolationKind = keyof typeof violationKinds;

export interface Violation {
  readonly kind: ViolationKind;
  readonly detail: string;
}

/** Of one reader. */
export interface ReaderVerdict {
  readonly reader: string;
  /** Different changes. */
  readonly changes: number;
  /** Deliveries of changes that the reader had taken before. */
  readonly repeats: number;
  /** Changes of the log that a declared loss explains. */
  readonly gone: number;
  readonly violations: readonly Violation[];
}
