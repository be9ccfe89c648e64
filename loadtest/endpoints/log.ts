/** What the change log has of a schedule's channels: the truth that every reader is compared with. Pure. */

export interface LoggedChange {
  readonly channel: string;
  readonly epoch: string;
  readonly offset: number;
  readonly item: string;
  /** What stays in order. */
  readonly key: string;
  /** Unix ms. */
  readonly at: number;
}

/** The same for every reader. */
export function nameOf({ channel, epoch, offset }: Pick<LoggedChange, "channel" | "epoch" | "offset">): string {
  return `${channel} ${epoch}/${offset}`;
}
