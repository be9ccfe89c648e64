/** What one connection may send, besides the events that its session counts by itself. Pure. */

/** An honest client answers a ping each 25 s and fragments no message into small pieces. */
const controlsAtOnce = 100;
const controlsPerSecond = 10;
/** CONNECT, and a few more that a client of a faulty library repeats. */
const maxConnects = 5;
/** Before a session begins: CONNECT with its token and what it resumes with, in as many frames. */
const maxEnteringFrames = 20;
const maxEnteringBytes = 64 * 1024;
/** What a client had on its way when its connection was closed, and its answer to that. */
const maxClosingFrames = 1_000;

/** Why a connection is cut. `entering`: it sent too much before its session began; `closing`: after the node had closed it. */
export type Flood = "entering" | "closing" | "controls" | "connects" | "packets" | "bytes";

/** Grows by what is added, and shrinks with time. */
class Leak {
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

  /** @returns the level with what was added. */
  add(amount: number, now: number): number {
    const leaked = ((now - this.#at) * this.#perSecond) / 1_000;
    this.#level = Math.max(0, this.#level - leaked) + amount;
    this.#at = now;
    return this.#level;
  }
}

/**
 * Counts every frame and byte of a connection. A frame that carries no event costs the node as much as one that does, and no
 * other bound sees it. Bytes are not refused: past their rate the connection is read later.
 */
export class InputBudget {
  readonly #bytesPerSecond: number;
  #entering: { frames: number; bytes: number } | undefined = { frames: 0, bytes: 0 };
  /** Frames since the node has closed the connection. */
  #closingFrames: number | undefined;
  #connects = 0;
  #controls: Leak | undefined;
  #bytes: Leak | undefined;

  /** @param bytesPerSecond that a session may send; twice as many at once. */
  constructor(bytesPerSecond: number) {
    this.#bytesPerSecond = bytesPerSecond;
  }

  /** The largest message that is taken now, in bytes; undefined: the engine's own bound holds. */
  get maxMessageBytes(): number | undefined {
    return this.#entering && maxEnteringBytes;
  }

  /** The most packets that one polling request may bring. */
  get maxPackets(): number {
    return this.#entering ? maxEnteringFrames : maxPollingPackets;
  }

  /** A session has begun: the bounds of a stranger end. */
  beginSession(): void {
    this.#entering = undefined;
  }

  /** The node waits for its peer to answer the closing handshake; nothing else of it counts any more. */
  beginClosing(): void {
    this.#closingFrames ??= 0;
  }

  takeBytes(bytes: number, now: number): Flood | undefined {
    if (this.#entering) {
      this.#entering.bytes += bytes;
      return this.#entering.bytes > maxEnteringBytes ? "entering" : undefined;
    }
    this.#bytes ??= new Leak(this.#bytesPerSecond, now);
    this.#bytes.add(bytes, now);
    return undefined;
  }

  /** How long to wait before the connection is read again, in ms. */
  get pauseMs(): number {
    const over = (this.#bytes?.level ?? 0) - 2 * this.#bytesPerSecond;
    return over > 0 ? Math.ceil((over * 1_000) / this.#bytesPerSecond) : 0;
  }

  /** The length of a frame's payload, before any of it is buffered. */
  takeMessage(bytes: number): Flood | undefined {
    return this.#entering && bytes > maxEnteringBytes ? "entering" : undefined;
  }

  /** Any frame, before its content is known. */
  takeFrame(): Flood | undefined {
    if (this.#closingFrames !== undefined && ++this.#closingFrames > maxClosingFrames) return "closing";
    if (!this.#entering) return undefined;
    return ++this.#entering.frames > maxEnteringFrames ? "entering" : undefined;
  }

  /** A frame or packet that is no event: ping, pong, noop, ack, a small fragment. */
  takeControl(now: number): Flood | undefined {
    this.#controls ??= new Leak(controlsPerSecond, now);
    return this.#controls.add(1, now) > controlsAtOnce ? "controls" : undefined;
  }

  takeConnect(): Flood | undefined {
    return ++this.#connects > maxConnects ? "connects" : undefined;
  }
}

/** A client may subscribe to all of its channels at once, and ask for their presence and history: so many, and some calls. */
const maxPollingPackets = 1_000;
