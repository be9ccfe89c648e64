/** What one connection may send, apart from the events that its session counts. Pure. */

/** An honest client sends a pong every 25 s, and fragments no message into small pieces. */
const controlsAtOnce = 100;
const controlsPerSecond = 10;
/** A faulty client library may repeat CONNECT a few times. */
const maxConnects = 5;
/** Before a session begins: CONNECT with a token and a resume token, in so many frames. */
const maxEnteringFrames = 20;
const maxEnteringBytes = 64 * 1024;
/** In one polling request: subscribes to all channels of a client, their presence and history, and some calls. */
const maxPollingPackets = 1_000;
/** Frames under way when the node closed the connection, and the close frame in answer. */
const maxClosingFrames = 1_000;

/** What was too much. `entering`: before the session began; `closing`: after the node had closed the connection. */
export type Flood = "entering" | "closing" | "controls" | "connects" | "packets" | "bytes";

/** A level that grows by what is added, and drains at a rate. */
class LeakyBucket {
  readonly #perSecond: number;
  #level = 0;
  #at: number;

  constructor(perSecond: number, now: number) {
    this.#perSecond = perSecond;
    this.#at = now;
  }

  get level(): number {
    return this.#level;
  }

  /** @returns the new level. */
  add(amount: number, now: number): number {
    const leaked = ((now - this.#at) * this.#perSecond) / 1_000;
    this.#level = Math.max(0, this.#level - leaked) + amount;
    this.#at = now;
    return this.#level;
  }
}

/**
 * Counts every frame and byte of a connection. A frame without an event costs the node as much as one with an event, and no
 * other bound counts it. Bytes past their rate are not refused: the node pauses reading.
 */
export class InputBudget {
  readonly #bytesPerSecond: number;
  #entering: { frames: number; bytes: number } | undefined = { frames: 0, bytes: 0 };
  /** Frames since the node closed the connection. */
  #closingFrames: number | undefined;
  #connects = 0;
  #controls: LeakyBucket | undefined;
  #bytes: LeakyBucket | undefined;

  /** @param bytesPerSecond that a session may send; twice as many at once. */
  constructor(bytesPerSecond: number) {
    this.#bytesPerSecond = bytesPerSecond;
  }

  /** The largest message that is read now, in bytes; undefined: the engine's bound. */
  get maxMessageBytes(): number | undefined {
    return this.#entering && maxEnteringBytes;
  }

  /** In one polling request. */
  get maxPackets(): number {
    return this.#entering ? maxEnteringFrames : maxPollingPackets;
  }

  /** No session has begun. */
  get isEntering(): boolean {
    return this.#entering !== undefined;
  }

  /** Lifts the bounds of a stranger. */
  beginSession(): void {
    this.#entering = undefined;
  }

  /** The node has closed the connection, and waits for the answer to its closing handshake. */
  beginClosing(): void {
    this.#closingFrames ??= 0;
  }

  takeBytes(bytes: number, now: number): Flood | undefined {
    if (this.#entering) {
      this.#entering.bytes += bytes;
      return this.#entering.bytes > maxEnteringBytes ? "entering" : undefined;
    }
    this.#bytes ??= new LeakyBucket(this.#bytesPerSecond, now);
    this.#bytes.add(bytes, now);
    return undefined;
  }

  /** How long to pause reading. */
  get pauseMs(): number {
    const over = (this.#bytes?.level ?? 0) - 2 * this.#bytesPerSecond;
    return over > 0 ? Math.ceil((over * 1_000) / this.#bytesPerSecond) : 0;
  }

  /** @param bytes of the payload of a frame, none of which is buffered yet. */
  takeMessage(bytes: number): Flood | undefined {
    return this.#entering && bytes > maxEnteringBytes ? "entering" : undefined;
  }

  /** Counts any frame. */
  takeFrame(): Flood | undefined {
    if (this.#closingFrames !== undefined && ++this.#closingFrames > maxClosingFrames) return "closing";
    if (!this.#entering) return undefined;
    return ++this.#entering.frames > maxEnteringFrames ? "entering" : undefined;
  }

  /** Counts a frame or packet without an event: ping, pong, noop, ack, a small fragment. */
  takeControl(now: number): Flood | undefined {
    this.#controls ??= new LeakyBucket(controlsPerSecond, now);
    return this.#controls.add(1, now) > controlsAtOnce ? "controls" : undefined;
  }

  takeConnect(): Flood | undefined {
    return ++this.#connects > maxConnects ? "connects" : undefined;
  }
}
