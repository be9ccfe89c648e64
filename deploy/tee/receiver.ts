/** Takes the requests of another system, captures each, and only then sends it on. */
import { isUtf8 } from "node:buffer";
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { secretHeader } from "../../shared/http/secret-headers.ts";
import type { CaptureFile } from "./capture-file.ts";
import type { Forward } from "./forward.ts";

const requestTimeoutMs = 30_000;
const headersTimeoutMs = 10_000;
const maxConnections = 1_000;
/** Their bodies are in memory. */
const maxInFlight = 256;
const requestsPerMs = 1_000;

export class TeeReceiver {
  readonly #server: Server;
  readonly #file: CaptureFile;
  readonly #forward: Forward | undefined;
  readonly #maxBodyBytes: number;
  readonly #report: (message: string) => void;
  /** Grows, also over restarts. */
  #request = Date.now() * requestsPerMs;
  #inFlight = 0;

  /** @param options.report gets a line for each request that could not be captured */
  constructor(options: {
    file: CaptureFile;
    /** Undefined: the tee answers 200 itself. */
    forward: Forward | undefined;
    maxBodyBytes: number;
    report: (message: string) => void;
  }) {
    this.#file = options.file;
    this.#forward = options.forward;
    this.#maxBodyBytes = options.maxBodyBytes;
    this.#report = options.report;
    const timeouts = { requestTimeout: requestTimeoutMs, headersTimeout: headersTimeoutMs };
    this.#server = createServer(timeouts, (request, response) => {
      response.once("error", () => undefined);
      void this.#take(request, response);
    });
    this.#server.maxConnections = maxConnections;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async start(port: number, host: string): Promise<void> {
    this.#server.listen(port, host);
    await once(this.#server, "listening");
  }

  /** Requests under way are answered first. */
  async stop(): Promise<void> {
    this.#server.close();
    this.#server.closeIdleConnections();
    await once(this.#server, "close");
  }

  async #take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (this.#inFlight >= maxInFlight) return refuse(response, 503);
    this.#inFlight++;
    try {
      const body = await bodyOf(request, this.#maxBodyBytes);
      if (body === "too large") return refuse(response, 413);
      if (body) await this.#captureAndForward(request, body, response);
    } finally {
      this.#inFlight--;
    }
  }

  async #captureAndForward(request: IncomingMessage, body: Buffer, response: ServerResponse): Promise<void> {
    const number = ++this.#request;
    try {
      await this.#file.append(captureOf(number, request, body));
    } catch (error) {
      this.#report(`a request is not captured, and refused: ${(error as Error).message}`);
      return refuse(response, 503);
    }
    if (!this.#forward) {
      response.writeHead(200).end();
      return;
    }
    const from = performance.now();
    const forwarded = await this.#forward.send(request, body, response);
    const outcome = { request: number, ...forwarded, ms: Math.round(performance.now() - from) };
    await this.#file
      .append(outcome)
      .catch((error: unknown) => this.#report(`an answer is not captured: ${(error as Error).message}`));
  }
}

function captureOf(request: number, { method, url = "/", rawHeaders }: IncomingMessage, body: Buffer): object {
  const [, path = url, query] = /^([^?]*)(\?.*)?$/s.exec(url) ?? [];
  const headers = rawHeaders.map((part, at) =>
    at % 2 === 1 && secretHeader.test(rawHeaders[at - 1] ?? "") ? "***" : part,
  );
  return {
    ...{ request, at: Date.now(), method, path, ...(query !== undefined && { query }), headers },
    ...(isUtf8(body) ? { body: body.toString() } : { bodyBase64: body.toString("base64") }),
  };
}

/** Undefined where the sender has gone. What is too large is read to its end, within the request's time, and not kept. */
async function bodyOf(request: IncomingMessage, maxBytes: number): Promise<Buffer | "too large" | undefined> {
  const { promise, resolve } = Promise.withResolvers<Buffer | "too large" | undefined>();
  let parts: Buffer[] = [];
  let bytes = 0;
  request.on("data", (part: Buffer) => {
    bytes += part.length;
    if (bytes <= maxBytes) parts.push(part);
    else {
      parts = [];
      resolve("too large");
    }
  });
  request.once("end", () => resolve(Buffer.concat(parts)));
  request.once("close", () => resolve(undefined));
  request.once("error", () => resolve(undefined));
  return promise;
}

function refuse(response: ServerResponse, status: 413 | 503): void {
  response.writeHead(status, { connection: "close", ...(status === 503 && { "retry-after": "1" }) });
  response.end();
}
