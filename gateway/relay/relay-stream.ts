import { type DuplexStream, openDuplexStream } from "../../shared/http/duplex-stream.ts";
import { parseJson } from "../../shared/json.ts";
import { LineBatcher, LineSplitter } from "../../shared/lines.ts";
import {
  maxRelayLineLength,
  type RelayAnswer,
  relayContentType,
  relayFromPrivateApi,
  relayPath,
} from "../../shared/protocol/relay.ts";

export interface RelayStreamListener {
  onAnswer(answer: RelayAnswer): void;
  /** The other side wants no more questions on this stream; answers still come. */
  onDrain(): void;
  /** No more answers come: what was asked and not answered may or may not have been done. */
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

  /** @throws where the private API cannot be reached or refuses the token. */
  static async open(options: {
    address: string;
    token: string;
    node: string;
    listener: RelayStreamListener;
  }): Promise<RelayStream> {
    const { address, token, node, listener } = options;
    const splitter = new LineSplitter(maxRelayLineLength);
    const stream: DuplexStream = await openDuplexStream(new URL(relayPath, address), {
      headers: { authorization: `Bearer ${token}`, "content-type": relayContentType },
      first: `${JSON.stringify({ hello: 1, node })}\n`,
      listener: {
        onData: (chunk) => {
          try {
            for (const line of splitter.push(chunk)) receive(line, listener);
          } catch (error) {
            listener.onEnd(error as Error);
            stream.destroy();
          }
        },
        onEnd: (error) => listener.onEnd(error),
      },
    });
    return new RelayStream(stream);
  }

  ask(line: string): void {
    this.#batcher.add(line);
  }

  /** Asks nothing more; answers to what was asked still come. */
  end(): void {
    this.#batcher.flush();
    this.#stream.end();
  }

  destroy(): void {
    this.#stream.destroy();
  }
}

function receive(line: string, listener: RelayStreamListener): void {
  const value = parseJson(line);
  if (!relayFromPrivateApi.Check(value)) throw new Error("the private API sent a line that is no answer");
  if ("drain" in value) listener.onDrain();
  else listener.onAnswer(value);
}
