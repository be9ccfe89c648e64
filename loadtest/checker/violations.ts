/** The ways to break the contract. */
export const violationKinds = {
  lost: "publications are missing although history has them, without a signal",
  unsignalled: "the client's position is no longer in history, and delivery continued without a signal",
  doubled: "a publication came twice",
  reordered: "a publication came after a later one",
  forked: "one offset stands for two publications, or has two predecessors",
  unsolicited: "an event of a channel came outside of its subscription",
  falseSignal: "the client had to resync although history could bridge",
  doubledSignal: "the client had to resync twice for one loss",
  behind: "at the end the client is behind the channel",
  vanished: "an acknowledged publication is gone, and no loss was declared",
} as const;

export type ViolationKind = keyof typeof violationKinds;

export interface Violation {
  readonly kind: ViolationKind;
  readonly channel: string;
  /** Absent: a violation of the channel itself. */
  readonly follower?: string;
  readonly detail: string;
}
