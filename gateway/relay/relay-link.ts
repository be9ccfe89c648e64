import type { Logger } from "../../shared/runtime/logging.ts";
import { jittered } from "../../shared/runtime/timing.ts";
import { StreamRefused } from "../../shared/http/duplex-stream.ts";
import { RelayStream, type RelayStreamOptions } from "./relay-stream.ts";

/** A stream is replaced after this, so that all processes behind one address get their share. */
const rotateAfterMs = 60_000;
const reconnectBaseMs = 50;
const reconnectCapMs = 2_000;
/** A stream that ends sooner counts as a failed attempt: the private API may have another version. */
const steadyAfterMs = 1_000;

export interface RelayLinkOptions extends Omit<RelayStreamOptions, "onDrain" | "onEnd"> {
  onOpen: (stream: RelayStream) => void;
  logger: Logger;
}

/** Keeps a stream open to one private API address: replaces it when it is lost, drained or old. */
export class RelayLink {
  readonly #options: RelayLinkOptions;
  #current: RelayStream | undefined;
  /** Streams that take no new questions and still answer, and at most one that has nothing left to answer. */
  readonly #ending = new Set<RelayStream>();
  #timer: NodeJS.Timeout | undefined;
  #failures = 0;
  /** Failed attempts before the current stream. */
  #failuresBefore = 0;
  #hasOpened = false;
  #refusal: string | undefined;
  #stopped = false;

  constructor(options: RelayLinkOptions) {
    this.#options = options;
  }

  /** The stream for new questions; undefined while the address is out of reach. */
  get current(): RelayStream | undefined {
    return this.#current;
  }

  /** A stream has been open. */
  get hasOpened(): boolean {
    return this.#hasOpened;
  }

  /** Why the private API refuses the token of this gateway; undefined where the last attempt had another end. */
  get refusal(): string | undefined {
    return this.#refusal;
  }

  /** Resolves after the first attempt, also where it fails. */
  async start(): Promise<void> {
    await this.#connect();
  }

  /** Closes all streams; answers under way are lost. */
  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
    this.#current?.destroy();
    for (const stream of this.#ending) stream.destroy();
  }

  async #connect(): Promise<void> {
    const { onOpen } = this.#options;
    let stream: RelayStream;
    try {
      stream = await RelayStream.open({
        ...this.#options,
        onDrain: (drained) => this.#drained(drained),
        onEnd: (ended, error) => this.#ended(ended, error),
      });
    } catch (error) {
      this.#noteFailure(error);
      this.#retryLater();
      return;
    }
    if (this.#stopped) {
      stream.destroy();
      return;
    }
    this.#failuresBefore = this.#failures;
    this.#failures = 0;
    this.#hasOpened = true;
    this.#refusal = undefined;
    const old = this.#current;
    this.#current = stream;
    if (old) this.#endInOrder(old);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#connect(), jittered(rotateAfterMs));
    onOpen(stream);
  }

  /** Logs one line per outage, however many attempts it takes. */
  #noteFailure(error: unknown): void {
    const { address, logger } = this.#options;
    const wasRefused = this.#refusal !== undefined;
    const isRefused = error instanceof StreamRefused && (error.status === 401 || error.status === 403);
    this.#refusal = isRefused ? `${address} refuses PRIVATE_API_TOKEN (${error.status})` : undefined;
    if (this.#failures++ > 0 && isRefused === wasRefused) return;
    if (isRefused) {
      const advice = "set PRIVATE_API_TOKEN to a token of PRIVATE_API_TOKENS with the scope relay";
      logger.error({ address, status: error.status, advice }, "private API refuses this gateway");
    } else {
      logger.warn({ reason: String(error), address }, "private API out of reach");
    }
  }

  /** The process behind the stream stops: new questions go to another one. */
  #drained(stream: RelayStream): void {
    if (this.#current !== stream) return;
    clearTimeout(this.#timer);
    this.#current = undefined;
    this.#endInOrder(stream);
    void this.#connect();
  }

  /** The other side ends the stream after its last answer. One that has not done so by the next rotation is destroyed. */
  #endInOrder(old: RelayStream): void {
    for (const stream of this.#ending) if (stream.unanswered === 0) stream.destroy();
    this.#ending.add(old);
    old.end();
  }

  #ended(stream: RelayStream, error: Error | undefined): void {
    if (this.#ending.delete(stream) || this.#current !== stream) return;
    clearTimeout(this.#timer);
    this.#current = undefined;
    if (this.#stopped) return;
    const { address, logger } = this.#options;
    if (stream.ageMs < steadyAfterMs) this.#failures = this.#failuresBefore + 1;
    if (this.#failures <= 1) {
      logger.warn({ err: error, address, lost: stream.unanswered }, "private API connection lost");
    }
    this.#retryLater();
  }

  #retryLater(): void {
    if (this.#stopped) return;
    const capMs = Math.min(reconnectCapMs, reconnectBaseMs * 2 ** Math.min(this.#failures, 10));
    this.#timer = setTimeout(() => void this.#connect(), Math.random() * capMs);
  }
}
