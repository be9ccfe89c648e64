import type { Connection } from "./connection.ts";
import type { Frame } from "./frames.ts";
import { WaitingFrames } from "./waiting-frames.ts";

/**
 * Handed to the network at a time. The rest waits here, where it can be conflated, and where the engine's pings overtake
 * it.
 */
const batchBytes = 64 * 1024;

/**
 * Frames that wait for one connection, in order. Nothing else writes to that connection.
 * Bounded: where the client reads too slowly, the outbox closes and calls `onOverflow` once.
 */
export class Outbox {
  readonly #sink: Pick<Connection, "write" | "takenBytes">;
  readonly #maxBytes: number;
  readonly #onOverflow: () => void;
  readonly #waiting: WaitingFrames;
  #inFlightBytes = 0;
  #batchesSent = 0;
  #state: "unopened" | "open" | "closed" = "unopened";
  #isFinished = false;
  #whenFinished: (() => void) | undefined;
  #whenRoom: { bytes: number; callback: () => void } | undefined;

  /**
   * @param options.conflateFromBytes beyond this only the newest frame of each conflation key waits.
   * @param options.onConflated with the number of frames that newer ones replaced.
   */
  constructor(options: {
    sink: Pick<Connection, "write" | "takenBytes">;
    maxBytes: number;
    conflateFromBytes: number;
    onOverflow: () => void;
    onConflated: (frames: number) => void;
  }) {
    this.#sink = options.sink;
    this.#maxBytes = options.maxBytes;
    this.#onOverflow = options.onOverflow;
    this.#waiting = new WaitingFrames(options);
  }

  /** Bytes that have not left for the network. */
  get bytes(): number {
    return this.#waiting.bytes + this.#inFlightBytes;
  }

  /** Grows whenever the network takes anything, be it a part of a frame. */
  get progress(): number {
    return this.#batchesSent + this.#sink.takenBytes;
  }

  /** Begins to send: `first`, then every frame that waits. */
  open(first: Frame): void {
    if (this.#state !== "unopened") return;
    this.#state = "open";
    this.#write([first, ...this.#waiting.take(batchBytes)]);
  }

  /** Without effect once it is finished or closed. */
  send(frame: Frame): void {
    if (this.#state === "closed" || this.#isFinished) return;
    if (this.#state === "open" && this.#inFlightBytes === 0) {
      this.#inFlightBytes = frame.bytes;
      this.#sink.write(frame.packet, frame.options, this.#sent);
      return;
    }
    this.#waiting.push(frame);
    // A single frame larger than the bound may pass alone.
    if (this.bytes > this.#maxBytes && this.bytes > frame.bytes) {
      this.close();
      this.#onOverflow();
    }
  }

  /** Sends a last frame after those that wait, and none after it. Calls back once it has left, unless the outbox closes first. */
  finish(last: Frame, callback: () => void): void {
    this.send(last);
    this.#isFinished = true;
    if (this.#state === "closed") return;
    if (this.bytes === 0) callback();
    else this.#whenFinished = callback;
  }

  /** Resolves once at most `bytes` wait, or the outbox is closed. One caller at a time. */
  async room(bytes: number): Promise<void> {
    if (this.bytes <= bytes) return;
    await new Promise<void>((callback) => {
      this.#whenRoom = { bytes, callback };
    });
  }

  /** Drops every frame that waits, and sends no more. */
  close(): void {
    this.#state = "closed";
    this.#waiting.clear();
    this.#inFlightBytes = 0;
    this.#notifyRoom();
  }

  #notifyRoom(): void {
    if (!this.#whenRoom || this.bytes > this.#whenRoom.bytes) return;
    const { callback } = this.#whenRoom;
    this.#whenRoom = undefined;
    callback();
  }

  #write(frames: readonly Frame[]): void {
    this.#inFlightBytes = frames.reduce((sum, frame) => sum + frame.bytes, 0);
    const last = frames.length - 1;
    for (const [at, { packet, options }] of frames.entries()) {
      if (at === last) this.#sink.write(packet, options, this.#sent);
      else this.#sink.write(packet, options);
    }
  }

  readonly #sent = (): void => {
    if (this.#state === "closed") return;
    this.#batchesSent++;
    this.#inFlightBytes = 0;
    this.#notifyRoom();
    if (this.#waiting.bytes > 0) {
      this.#write(this.#waiting.take(batchBytes));
      return;
    }
    this.#whenFinished?.();
  };
}
