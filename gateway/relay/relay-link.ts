import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import type { Logger } from "../../shared/runtime/logging.ts";
import { jittered } from "../../shared/runtime/timing.ts";
import type { RelayAnswer } from "../../shared/protocol/relay.ts";
import { RelayStream, type RelayStreamListener } from "./relay-stream.ts";

/** A stream is replaced after this, so that all processes behind one address get their share. */
const rotateAfterMs = 60_000;
const reconnectBaseMs = 50;
const reconnectCapMs = 2_000;
/** A stream that ends sooner counts as a failed attempt: the private API may have another version. */
const steadyAfterMs = 1_000;

export interface RelayLinkListener {
  onOpen(link: RelayLink): void;
  onAnswer(answer: RelayAnswer, payload: string | undefined): void;
  /** The answer to the question cannot be read. */
  onUnreadable(id: number): void;
  /** These questions get no answer any more. */
  onLost(ids: readonly number[]): void;
}

interface Opened {
  stream: RelayStream;
  /** Questions without an answer. */
  asked: Set<number>;
  /** Unreadable lines without the id of their question. */
  unreadable: number;
  /** By `performance.now()`. */
  openedAt: number;
  /** Last arrival of any data, by `performance.now()`. */
  heardAt: number;
  /** Failed attempts before this one. */
  failures: number;
}

/** Keeps a stream open to one private API address: replaces it when it is lost, drained or old. */
export class RelayLink {
  readonly #address: string;
  readonly #open: (listener: RelayStreamListener) => Promise<RelayStream>;
  readonly #listener: RelayLinkListener;
  readonly #logger: Logger;
  /** The stream for new questions. */
  #current: Opened | undefined;
  /** Streams that take no new questions and still answer, and at most one that has nothing left to answer. */
  readonly #ending = new Set<Opened>();
  #timer: NodeJS.Timeout | undefined;
  #failures = 0;
  #stopped = false;

  constructor(options: {
    address: string;
    token: string;
    node: string;
    listener: RelayLinkListener;
    errors: ContainedErrors;
    logger: Logger;
  }) {
    const { address, token, node, errors } = options;
    this.#address = address;
    this.#listener = options.listener;
    this.#logger = options.logger;
    this.#open = (listener) => RelayStream.open({ address, token, node, errors, listener });
  }

  get isOpen(): boolean {
    return this.#current !== undefined;
  }

  /** Resolves after the first attempt, also where it fails. */
  async start(): Promise<void> {
    await this.#connect();
  }

  /** Closes all streams; answers under way are lost. */
  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
    this.#current?.stream.destroy();
    for (const { stream } of this.#ending) stream.destroy();
  }

  ask(id: number, line: string): void {
    if (!this.#current) throw new Error("the relay link is not open");
    this.#current.asked.add(id);
    this.#current.stream.ask(line);
  }

  /**
   * Gives up a question long after its deadline. Where nothing has arrived on its stream since the deadline, the process
   * behind it hangs: the stream is destroyed, and its other questions are lost. An unreadable line counts as the answer.
   * @param deadline by `performance.now()`.
   */
  abandon(id: number, deadline: number): void {
    for (const opened of [this.#current, ...this.#ending]) {
      if (!opened?.asked.delete(id)) continue;
      if (opened.unreadable > 0) opened.unreadable--;
      else destroyIfSilent(opened, deadline);
    }
  }

  async #connect(): Promise<void> {
    const asked = new Set<number>();
    let opened: Opened | undefined;
    let stream: RelayStream;
    try {
      stream = await this.#open({
        onAnswer: (answer, payload) => {
          asked.delete(answer.id);
          this.#listener.onAnswer(answer, payload);
        },
        onUnreadable: (id) => {
          if (id !== undefined && asked.delete(id)) this.#listener.onUnreadable(id);
          else if (opened) opened.unreadable++;
        },
        onHeard: () => {
          if (opened) opened.heardAt = performance.now();
        },
        onDrain: () => this.#drained(opened),
        onEnd: (error) => this.#ended(opened, asked, error),
      });
    } catch (error) {
      // One line per outage, however many attempts it takes.
      if (this.#failures++ === 0) {
        this.#logger.warn({ reason: String(error), address: this.#address }, "private API out of reach");
      }
      this.#retryLater();
      return;
    }
    if (this.#stopped) {
      stream.destroy();
      return;
    }
    const now = performance.now();
    opened = { stream, asked, unreadable: 0, openedAt: now, heardAt: now, failures: this.#failures };
    this.#failures = 0;
    const old = this.#current;
    this.#current = opened;
    if (old) this.#endInOrder(old);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#connect(), jittered(rotateAfterMs));
    this.#listener.onOpen(this);
  }

  /** The process behind the stream stops: new questions go to another one. */
  #drained(opened: Opened | undefined): void {
    if (!opened || this.#current !== opened) return;
    clearTimeout(this.#timer);
    this.#current = undefined;
    this.#endInOrder(opened);
    void this.#connect();
  }

  /** The other side ends the stream after its last answer. One that has not done so by the next rotation is destroyed. */
  #endInOrder(opened: Opened): void {
    for (const { stream, asked } of this.#ending) if (asked.size === 0) stream.destroy();
    this.#ending.add(opened);
    opened.stream.end();
  }

  #ended(opened: Opened | undefined, asked: ReadonlySet<number>, error: Error | undefined): void {
    if (asked.size > 0) this.#listener.onLost([...asked]);
    if (!opened || this.#ending.delete(opened) || this.#current !== opened) return;
    clearTimeout(this.#timer);
    this.#current = undefined;
    if (this.#stopped) return;
    if (performance.now() - opened.openedAt < steadyAfterMs) this.#failures = opened.failures + 1;
    if (this.#failures <= 1) {
      this.#logger.warn({ err: error, address: this.#address, lost: asked.size }, "private API connection lost");
    }
    this.#retryLater();
  }

  #retryLater(): void {
    if (this.#stopped) return;
    const capMs = Math.min(reconnectCapMs, reconnectBaseMs * 2 ** Math.min(this.#failures, 10));
    this.#timer = setTimeout(() => void this.#connect(), Math.random() * capMs);
  }
}

/** Data that arrived while this process was busy is read first: the poll phase lies between a timer and an immediate. */
function destroyIfSilent(opened: Opened, since: number): void {
  setImmediate(() => {
    if (opened.heardAt < since) opened.stream.destroy();
  });
}
