/** Sends a captured request on, byte for byte, and the answer back. */
import { Agent as HttpAgent, type IncomingMessage, request as httpRequest, type ServerResponse } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import { pipeline } from "node:stream/promises";

/** Of one connection, not of the message. */
const hopByHop = /^(host|connection|keep-alive|proxy-.*|te|trailer|transfer-encoding|upgrade|expect|content-length)$/i;
const maxSockets = 256;

export interface Forwarded {
  readonly status: number;
  /** Why there was no answer. */
  readonly error?: string;
}

export class Forward {
  readonly #url: URL;
  readonly #timeoutMs: number;
  readonly #agent: HttpAgent;

  /** Close it. @param url its path goes before that of each request */
  constructor(url: URL, timeoutMs: number) {
    this.#url = url;
    this.#timeoutMs = timeoutMs;
    const options = { keepAlive: true, maxSockets };
    this.#agent = url.protocol === "https:" ? new HttpsAgent(options) : new HttpAgent(options);
  }

  close(): void {
    this.#agent.destroy();
  }

  /** Never rejects: without an answer it answers 502 or 504 itself. */
  async send(request: IncomingMessage, body: Buffer, response: ServerResponse): Promise<Forwarded> {
    try {
      const answer = await this.#request(request, body);
      const status = answer.statusCode ?? 502;
      response.writeHead(status, kept(answer.rawHeaders));
      // What cuts the answer off has cut the connection to the sender as well.
      await pipeline(answer, response).catch(() => undefined);
      return { status };
    } catch (error) {
      const { name, message } = error as Error;
      const status = name === "TimeoutError" || name === "AbortError" ? 504 : 502;
      if (!response.headersSent) response.writeHead(status).end();
      return { status, error: message };
    }
  }

  async #request(given: IncomingMessage, body: Buffer): Promise<IncomingMessage> {
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    const send = this.#url.protocol === "https:" ? httpsRequest : httpRequest;
    const base = this.#url.pathname.replace(/\/$/, "");
    const path = base !== "" && given.url === "/" ? base : base + (given.url ?? "/");
    const request = send(
      {
        protocol: this.#url.protocol,
        hostname: this.#url.hostname.replace(/^\[|\]$/g, ""),
        port: this.#url.port,
        ...{ path, method: given.method, agent: this.#agent, signal: AbortSignal.timeout(this.#timeoutMs) },
        headers: ["host", this.#url.host, ...kept(given.rawHeaders), "content-length", String(body.length)],
      },
      resolve,
    );
    request.once("error", reject);
    request.end(body);
    return promise;
  }
}

/** Names and values in turn, as they came. */
function kept(rawHeaders: readonly string[]): string[] {
  return rawHeaders.filter((_part, at) => !hopByHop.test(rawHeaders[at - (at % 2)] ?? ""));
}
