/** A long HTTP request whose response is read while the request body is still being written. */
import { Readable } from "node:stream";
import { Client } from "undici";
import { withDeadline } from "../runtime/timing.ts";

const connectTimeoutMs = 2_000;
const headersTimeoutMs = 5_000;
/** For the text of a refusal. */
const refusalTimeoutMs = 2_000;
/** Length of a refusal that is kept for the log. */
const maxRefusalLength = 1_024;

export interface DuplexStream {
  write(text: string): void;
  /** Ends the request body. The response continues until the other side ends it. */
  end(): void;
  /** Cuts the connection. */
  destroy(): void;
}

/** The other side has answered, and not with 200. */
export class StreamRefused extends Error {
  readonly status: number;
  constructor(status: number, text: string) {
    super(`answered ${status}: ${text}`);
    this.name = "StreamRefused";
    this.status = status;
  }
}

export interface DuplexListener {
  onData(chunk: Buffer): void;
  /** Called once, with an error if the stream broke. */
  onEnd(error: Error | undefined): void;
}

/**
 * @param options.first sent with the head: the HTTP client sends nothing before the first part of the body.
 * @returns once the other side has answered 200. @throws StreamRefused where it answers otherwise; Error where it cannot be reached.
 */
export async function openDuplexStream(
  url: URL,
  options: { headers: Record<string, string>; first: string; listener: DuplexListener },
): Promise<DuplexStream> {
  const client = new Client(url.origin, {
    connect: { timeout: connectTimeoutMs },
    headersTimeout: headersTimeoutMs,
    bodyTimeout: 0,
  });
  const body = new Readable({ read: () => undefined });
  // The response reports how the request ends.
  body.on("error", () => body.destroy());
  body.push(options.first);
  try {
    const answer = await client.request({ method: "POST", path: url.pathname, headers: options.headers, body });
    if (answer.statusCode !== 200) {
      const text = await withDeadline(
        beginningOf(answer.body),
        refusalTimeoutMs,
        () => "the rest did not arrive in time",
      );
      throw new StreamRefused(answer.statusCode, text);
    }
    let ended = false;
    const end = (error?: Error): void => {
      if (ended) return;
      ended = true;
      void client.destroy();
      options.listener.onEnd(error);
    };
    answer.body.on("data", (chunk: Buffer) => options.listener.onData(chunk));
    answer.body.on("error", end);
    answer.body.once("end", () => end());
    answer.body.once("close", () => end());
    return {
      write: (text) => void body.push(text),
      end: () => void body.push(null),
      destroy: () => void client.destroy(),
    };
  } catch (error) {
    body.destroy();
    await client.destroy();
    throw error;
  }
}

/** The rest of the response is not read. */
async function beginningOf(answer: Readable): Promise<string> {
  let text = "";
  // A response that is not read to its end emits an error too.
  answer.on("error", () => answer.destroy());
  for await (const chunk of answer) {
    text += String(chunk);
    if (text.length >= maxRefusalLength) break;
  }
  return text.slice(0, maxRefusalLength);
}
