/** What a client has seen of a channel: whether each publication followed on the one before. */
export class Chain {
  readonly offsets = new Set<number>();
  last: number;
  /** A publication that did not follow on the last. */
  breaks = 0;
  epoch: string;

  constructor({ epoch, offset }: { epoch: string; offset: number }) {
    this.epoch = epoch;
    this.last = offset;
  }

  take({ offset, prev = offset - 1 }: { offset: number; prev?: number | undefined }): void {
    if (prev !== this.last) this.breaks++;
    this.last = offset;
    this.offsets.add(offset);
  }
}
