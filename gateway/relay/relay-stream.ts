import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import { type DuplexStream, openDuplexStream } from "../../shared/http/duplex-stream.ts";
import { type Line, LineBatcher, LineSplitter } from "../../shared/json/lines.ts";
import {
  maxAnswerLineBytes,
  readRelayLine,
  type RelayAnswer,
  relayContentType,
  relayFromPrivateApi,
  relayPath,
  relayVersion,
  relayVersionHeader,
} from "../../shared/protocol/relay.ts";

export interface RelayStreamListener {
  /** Anything arrived. */
  onHeard(): void;
  /** @param payload the data, or the details of the error. */
  onAnswer(answer: RelayAnswer, payload: string | undefined): void;
  /** A line cannot be read. @param id of the question that it answers, where it is readable. */
  onUnreadable(id: number | undefined): void;
  /** The private API wants no more questions on this stream; answers still come. */
  onDrain(): void;
  /** No more answers come: unanswered calls may have been made. */
  onEnd(error: Error | undefined): void;
}

/** One stream of questions to one private API process. */
export class RelayStream {
  readonly #stream: DuplexStream;
  readonly #batcher: LineBatcher;

  private constructor(stream: DuplexStream) {
    this.#stream = stream;
    this.#batcher = new LineBatcher((lines) => stream.write(lines));
  }

  /** @throws Error where the private API cannot be reached, or refuses the token or the version. */
  static async open(options: {
    address: string;
    token: string;
    node: string;
    errors: ContainedErrors;
    listener: RelayStreamListener;
  }): Promise<RelayStream> {
    const { address, token, node, errors, listener } = options;
    const splitter = new LineSplitter(maxAnswerLineBytes);
    const headers = {
      authorization: `Bearer ${token}`,
      "content-type": relayContentType,
      [relayVersionHeader]: String(relayVersion),
    };
    const stream = await openDuplexStream(new URL(relayPath, address), {
      headers,
      first: `${JSON.stringify({ hello: relayVersion, node })}\n`,
      listener: {
        onData: (chunk) => {
          listener.onHeard();
          for (const line of splitter.push(chunk)) errors.contain("relay", () => receive(line, listener, errors));
        },
        onEnd: (error) => listener.onEnd(error),
      },
    });
    return new RelayStream(stream);
  }

  ask(line: string): void {
    this.#batcher.add(line);
  }

  /** Sends no more questions; answers still come. */
  end(): void {
    this.#batcher.flush();
    this.#stream.end();
  }

  destroy(): void {
    this.#stream.destroy();
  }
}

/** An unreadable line, or a listener that throws, fails its own call and no other. */
function receive(line: Line, listener: RelayStreamListener, errors: ContainedErrors): void {
  const read = readRelayLine(line, relayFromPrivateApi);
  if (read.kind === "unreadable") {
    errors.report("relay", new Error(`an answer of the private API cannot be read: ${read.reason}`));
    listener.onUnreadable(read.id);
    return;
  }
  const { head, payload } = read;
  if ("drain" in head) return listener.onDrain();
  errors.contain(
    "relay",
    () => listener.onAnswer(head, payload),
    () => listener.onUnreadable(head.id),
  );
}
