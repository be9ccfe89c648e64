import type { Logger } from "../../shared/logging.ts";
import type { RelayAnswer } from "../../shared/protocol/relay.ts";
import { RelayStream } from "./relay-stream.ts";

/** A stream is replaced after this, so that processes behind one address all get their share. */
const rotateAfterMs = 60_000;
const reconnectBaseMs = 50;
const reconnectCapMs = 2_000;

export interface RelayLinkListener {
  onOpen(link: RelayLink): void;
  onAnswer(answer: RelayAnswer): void;
  /** What was asked with these ids gets no answer any more. */
  onLost(ids: readonly number[]): void;
}

/** Keeps a stream open to one private API address: opens it again when it is lost, drained or old. */
export class RelayLink {
  readonly #address: string;
  readonly #open: (listener: Parameters<typeof RelayStream.open>[0]["listener"]) => Promise<RelayStream>;
  readonly #listener: RelayLinkListener;
  readonly #logger: Logger;
  /** Takes questions. */
  #current: { stream: RelayStream; asked: Set<number> } | undefined;
  /** Asked to end, and still answering. */
  readonly #ending = new Map<RelayStream, Set<number>>();
  #timer: NodeJS.Timeout | undefined;
  #failures = 0;
  #stopped = false;

  constructor(options: { address: string; token: string; node: string; listener: RelayLinkListener; logger: Logger }) {
    const { address, token, node } = options;
    this.#address = address;
    this.#listener = options.listener;
    this.#logger = options.logger;
    this.#open = (listener) => RelayStream.open({ address, token, node, listener });
  }

  get isOpen(): boolean {
    return this.#current !== undefined;
  }

  /** The first attempt is over, whatever came of it. */
  async start(): Promise<void> {
    await this.#connect();
  }

  /** Ends what is open; answers under way are lost. */
  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
    this.#current?.stream.destroy();
    for (const stream of this.#ending.keys()) stream.destroy();
  }

  ask(id: number, line: string): void {
    if (!this.#current) throw new Error("asked on a link that is not open");
    this.#current.asked.add(id);
    this.#current.stream.ask(line);
  }

  /** A question had no answer long after its deadline: the process behind its stream hangs. Its other questions are lost. */
  abandon(id: number): void {
    const current = this.#current;
    if (current?.asked.has(id)) current.stream.destroy();
    for (const [stream, asked] of this.#ending) if (asked.has(id)) stream.destroy();
  }

  async #connect(): Promise<void> {
    const asked = new Set<number>();
    let opened: RelayStream | undefined;
    try {
      opened = await this.#open({
        onAnswer: (answer) => {
          asked.delete(answer.id);
          this.#listener.onAnswer(answer);
        },
        onDrain: () => this.#drained(opened),
        onEnd: (error) => this.#ended(opened, asked, error),
      });
    } catch (error) {
      // One line for an outage, however many attempts it takes.
      if (this.#failures++ === 0) {
        this.#logger.warn({ reason: String(error), address: this.#address }, "private API out of reach");
      }
      this.#retryLater();
      return;
    }
    if (this.#stopped) {
      opened.destroy();
      return;
    }
    this.#failures = 0;
    const old = this.#current;
    this.#current = { stream: opened, asked };
    if (old) this.#endInOrder(old);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#connect(), rotateAfterMs * (0.75 + Math.random() / 2));
    this.#listener.onOpen(this);
  }

  /** Its process stops: another one is asked from here on. */
  #drained(stream: RelayStream | undefined): void {
    if (!stream || this.#current?.stream !== stream) return;
    clearTimeout(this.#timer);
    const drained = this.#current;
    this.#current = undefined;
    this.#endInOrder(drained);
    void this.#connect();
  }

  /** No more questions; it ends with its last answer. */
  #endInOrder({ stream, asked }: { stream: RelayStream; asked: Set<number> }): void {
    this.#ending.set(stream, asked);
    stream.end();
  }

  #ended(stream: RelayStream | undefined, asked: ReadonlySet<number>, error: Error | undefined): void {
    if (asked.size > 0) this.#listener.onLost([...asked]);
    if (stream && this.#ending.delete(stream)) return;
    if (this.#current?.stream !== stream) return;
    clearTimeout(this.#timer);
    this.#current = undefined;
    if (this.#stopped) return;
    this.#logger.warn({ err: error, address: this.#address, lost: asked.size }, "private API connection lost");
    this.#retryLater();
  }

  #retryLater(): void {
    if (this.#stopped) return;
    const capMs = Math.min(reconnectCapMs, reconnectBaseMs * 2 ** Math.min(this.#failures, 10));
    this.#timer = setTimeout(() => void this.#connect(), Math.random() * capMs);
  }
}
