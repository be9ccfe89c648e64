/** What breaks the contract, by kind. */
export const violationKinds = {
  lost: "publications were left out although history had them, and nobody said so",
  unsignalled: "what the client had was gone, it went on all the same, and nobody said so",
  doubled: "a publication came twice",
  reordered: "a publication came after a later one",
  forked: "one offset stands for two publications, or follows on two",
  unsolicited: "something of a channel came outside a subscription to it",
  falseSignal: "the client was told to resync although history could bridge",
  doubledSignal: "the client was told to resync twice for one loss",
  behind: "at the end the client does not stand where the channel does",
  vanished: "a publication was acknowledged, is gone, and no data loss was declared",
} as const;

export type ViolationKind = keyof typeof violationKinds;

export interface Violation {
  readonly kind: ViolationKind;
  readonly channel: string;
  /** Absent: it concerns the channel itself. */
  readonly follower?: string;
  readonly detail: string;
}
