/** The ways to break the contract of keyed queues. */
export const violationKinds = {
  lost: "an acknowledged item was neither taken by the service nor kept as a dead letter",
  inverted: "an item came after a later one of its key",
  overtaken: "an item was delivered while an earlier one was still under way with a fresh lease",
  changed: "an item came again under another id or sequence",
  fenceReused: "two requests of a key had the same fence",
  sequenceBroken: "the sequence did not grow with a new item",
  previousBroken: "ce-previous does not name the item before",
} as const;

export type ViolationKind = keyof typeof violationKinds;

export interface Violation {
  readonly kind: ViolationKind;
  readonly key: string;
  readonly detail: string;
}
