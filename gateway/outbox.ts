import type { Frame } from "./frames.ts";

/** The part of an engine's connection that an outbox writes to. */
export interface FrameSink {
  /** `sent` is called once this and everything before it has left for the network. */
  write(packet: string, options: Frame["options"], sent?: () => void): unknown;
}

/**
 * What one connection still has to be sent, in order. Nothing else writes to that connection.
 * Bounded: where the reader is too slow, `onOverflow` is called once and nothing more is sent.
 */
export class Outbox {
  readonly #sink: FrameSink;
  readonly #maxBytes: number;
  readonly #onOverflow: () => void;
  #queue: Frame[] = [];
  #queuedBytes = 0;
  #inFlightBytes = 0;
  #state: "unopened" | "open" | "closed" = "unopened";
  #whenEmpty: (() => void) | undefined;

  constructor(options: { sink: FrameSink; maxBytes: number; onOverflow: () => void }) {
    this.#sink = options.sink;
    this.#maxBytes = options.maxBytes;
    this.#onOverflow = options.onOverflow;
  }

  /** Bytes that have not left for the network. */
  get bytes(): number {
    return this.#queuedBytes + this.#inFlightBytes;
  }

  /** Until now everything was held: `first` goes before it. */
  open(first: Frame): void {
    if (this.#state !== "unopened") return;
    this.#state = "open";
    this.#queue.unshift(first);
    this.#queuedBytes += first.bytes;
    this.#flush();
  }

  send(frame: Frame): void {
    if (this.#state === "closed") return;
    // A frame that is larger than the bound by itself may pass alone.
    if (this.bytes > 0 && this.bytes + frame.bytes > this.#maxBytes) {
      this.close();
      this.#onOverflow();
      return;
    }
    this.#queue.push(frame);
    this.#queuedBytes += frame.bytes;
    if (this.#inFlightBytes === 0 && this.#state === "open") this.#flush();
  }

  /** Calls back once everything is sent; at once where nothing waits. One caller at a time. */
  whenEmpty(callback: () => void): void {
    if (this.bytes === 0) callback();
    else this.#whenEmpty = callback;
  }

  /** Drops what waits; nothing is sent any more. */
  close(): void {
    this.#state = "closed";
    this.#queue = [];
    this.#queuedBytes = 0;
    this.#inFlightBytes = 0;
  }

  #flush(): void {
    const frames = this.#queue;
    this.#queue = [];
    this.#inFlightBytes = this.#queuedBytes;
    this.#queuedBytes = 0;
    const last = frames.length - 1;
    for (const [at, { packet, options }] of frames.entries()) {
      if (at === last) this.#sink.write(packet, options, this.#sent);
      else this.#sink.write(packet, options);
    }
  }

  readonly #sent = (): void => {
    if (this.#state === "closed") return;
    this.#inFlightBytes = 0;
    if (this.#queue.length > 0) {
      this.#flush();
      return;
    }
    const callback = this.#whenEmpty;
    this.#whenEmpty = undefined;
    callback?.();
  };
}
