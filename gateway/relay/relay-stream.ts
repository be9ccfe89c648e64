import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import { type DuplexStream, openDuplexStream } from "../../shared/http/duplex-stream.ts";
import { type Line, LineBatcher, LineSplitter } from "../../shared/json/lines.ts";
import * as protocol from "../../shared/protocol/relay.ts";

/** Gets the answers, and the questions that get none, of all streams. */
export interface RelayListener {
  /** @param payload the data, or the details of the error. */
  onAnswer(answer: protocol.RelayAnswer, payload: string | undefined): void;
  /** The answer to the question cannot be read. */
  onUnreadable(id: number): void;
  /** The stream has ended: these questions get no answer, and their calls may have been made. */
  onLost(ids: readonly number[]): void;
}

export interface RelayStreamOptions {
  address: string;
  token: string;
  node: string;
  profile: protocol.GatewayProfile;
  listener: RelayListener;
  errors: ContainedErrors;
  /** The private API wants no more questions on this stream; answers still come. */
  onDrain: (stream: RelayStream) => void;
  onEnd: (stream: RelayStream, error: Error | undefined) => void;
}

/** One stream of questions to one private API process. */
export class RelayStream {
  readonly #options: RelayStreamOptions;
  readonly #batcher = new LineBatcher((lines) => this.#stream?.write(lines));
  /** Questions without an answer. */
  readonly #asked = new Set<number>();
  /** Unreadable lines without the id of their question. */
  #unreadable = 0;
  /** By `performance.now()`. */
  #openedAt = 0;
  /** Last arrival of any data, by `performance.now()`. */
  #heardAt = 0;
  #stream: DuplexStream | undefined;

  private constructor(options: RelayStreamOptions) {
    this.#options = options;
  }

  /** @throws Error where the private API cannot be reached, or refuses the token or the version. */
  static async open(options: RelayStreamOptions): Promise<RelayStream> {
    const { address, token, node, profile, errors } = options;
    const stream = new RelayStream(options);
    const splitter = new LineSplitter(protocol.maxAnswerLineBytes);
    stream.#stream = await openDuplexStream(new URL(protocol.relayPath, address), {
      headers: {
        authorization: `Bearer ${token}`,
        "content-type": protocol.relayContentType,
        [protocol.relayVersionHeader]: String(protocol.relayVersion),
      },
      first: `${JSON.stringify({ hello: protocol.relayVersion, node, gateway: profile } satisfies protocol.RelayHello)}\n`,
      listener: {
        onData: (chunk) => {
          stream.#heardAt = performance.now();
          for (const line of splitter.push(chunk)) errors.contain("relay", () => stream.#receive(line));
        },
        onEnd: (error) => stream.#ended(error),
      },
    });
    stream.#openedAt = stream.#heardAt = performance.now();
    return stream;
  }

  get ageMs(): number {
    return performance.now() - this.#openedAt;
  }

  /** Questions without an answer. */
  get unanswered(): number {
    return this.#asked.size;
  }

  ask(id: number, line: string): void {
    this.#asked.add(id);
    this.#batcher.add(line);
  }

  /**
   * Gives up a question long after its deadline. Where nothing has arrived since the deadline, the process behind the stream
   * hangs: the stream is destroyed, and its other questions are lost. An unreadable line counts as the answer.
   * @param deadline by `performance.now()`.
   */
  abandon(id: number, deadline: number): void {
    if (!this.#asked.delete(id)) return;
    if (this.#unreadable > 0) {
      this.#unreadable--;
      return;
    }
    // Data that arrived while this process was busy is read first: the poll phase lies between a timer and an immediate.
    setImmediate(() => {
      if (this.#heardAt < deadline) this.destroy();
    });
  }

  /** Sends no more questions; answers still come. */
  end(): void {
    this.#batcher.flush();
    this.#stream?.end();
  }

  destroy(): void {
    this.#stream?.destroy();
  }

  /** An unreadable line, or a listener that throws, fails its own call and no other. */
  #receive(line: Line): void {
    const { listener, errors, onDrain } = this.#options;
    const read = protocol.readRelayLine(line, protocol.relayFromPrivateApi);
    if (read.kind === "unreadable") {
      errors.report("relay", new Error(`an answer of the private API cannot be read: ${read.reason}`));
      if (read.id !== undefined && this.#asked.delete(read.id)) listener.onUnreadable(read.id);
      else this.#unreadable++;
      return;
    }
    const { head, payload } = read;
    if ("drain" in head) return onDrain(this);
    this.#asked.delete(head.id);
    errors.contain(
      "relay",
      () => listener.onAnswer(head, payload),
      () => listener.onUnreadable(head.id),
    );
  }

  #ended(error: Error | undefined): void {
    const { listener, onEnd } = this.#options;
    if (this.#asked.size > 0) listener.onLost([...this.#asked]);
    onEnd(this, error);
  }
}
