/** One HTTP request and its answer, bounded in time and size, on undici's dispatch handlers. */
import { promisify } from "node:util";
import { gunzip } from "node:zlib";
import type { Dispatcher } from "undici";
import { maxAnswerBytes } from "../protocol/limits.ts";
import { smallAnswerBytes } from "./answer-budget.ts";
import { AddressRefused } from "./guarded-connector.ts";

type Headers = Parameters<NonNullable<Dispatcher.DispatchHandler["onResponseStart"]>>[2];

/** Why there is no answer: the service refused or cut the connection, time was up, or this side had no room or no valid request. */
type Fault = "service" | "deadline" | "own";

/** Any HTTP status counts as answered. */
export type ExchangeResult =
  /** `body`: decompressed, without a byte order mark. */
  | { kind: "answered"; status: number; headers: Headers; body: Buffer }
  /** The body cannot be decompressed. */
  | { kind: "unreadable"; status: number; headers: Headers; encoding: string }
  /** The request was not sent: no connection, or none in time. */
  | { kind: "unreachable"; reason: string; fault: Fault }
  /** The request was sent without a complete answer in time: its outcome is unknown. */
  | { kind: "unanswered"; reason: string; fault: Fault }
  /** `body`: its beginning, where some of it was read. */
  | { kind: "answer_too_large"; status: number; headers: Headers; body: Buffer };

/** Errors before a connection: the request was not sent. */
const notSentCodes = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "EADDRNOTAVAIL",
  "UND_ERR_CONNECT_TIMEOUT",
  "EPROTO",
]);
/** Errors before a connection, for a request that is not valid HTTP. */
const invalidRequestCodes = new Set(["UND_ERR_INVALID_ARG", "UND_ERR_NOT_SUPPORTED", "ERR_INVALID_URL"]);
/** Errors of the TLS handshake: the request was not sent either. */
const tlsCodes = /^(ERR_SSL_|ERR_TLS_|CERT_|UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_)/;
const unzip = promisify(gunzip);
const byteOrderMark = Buffer.from("\ufeff");
const noBody = Buffer.alloc(0);
/** Before the final response; each may have as many headers as that. */
const maxInformational = 8;

/** The parts of a URL: parsed once where many requests have the same. */
export interface Target {
  readonly origin: string;
  /** With the query. */
  readonly path: string;
}

export function targetOf(url: string): Target {
  const { origin, pathname, search } = new URL(url);
  return { origin, path: pathname + search };
}

export interface ExchangeOptions {
  url: string | Target;
  /** Or names and values in turn. */
  headers: Record<string, string> | string[];
  body: string | Buffer;
  /** From now to the end of the answer. */
  timeoutMs: number;
  /** Which limit that is, where it is not `timeoutMs` itself: for the reason of a timeout. */
  within?: string;
  /** Called before the rest of a large answer is read. False: no room within `waitMs`. */
  makeRoom: (waitMs: number) => Promise<boolean>;
  /** The body is not decompressed. */
  asReceived?: boolean;
  /**
   * After a 5xx the connection is closed: some servers close it a moment later, and a request that they had not read would be
   * lost. Of a 5xx without a `content-length` the body is not read.
   */
  closesAfterServerError?: boolean;
}

/** Sends a POST request once. Never rejects because of the network or the other side. */
export function exchange(dispatcher: Dispatcher, options: ExchangeOptions): Promise<ExchangeResult> {
  return new Promise((resolve) => {
    const handler = new ExchangeHandler(options, resolve);
    try {
      const { url, headers, body } = options;
      const { origin, path } = typeof url === "string" ? targetOf(url) : url;
      dispatcher.dispatch({ origin, path, method: "POST", headers, body }, handler);
    } catch (error) {
      handler.fail(error as Error);
    }
  });
}

const tooManyInformational = {
  kind: "unanswered",
  reason: "too many informational responses",
  fault: "service",
} as const;
/** undici says no more of it. */
const notAskedFor = "it sent 100 Continue, an upgrade or an answer that was not asked for";
const noRoom = { kind: "unanswered", reason: "no room for a large answer in time", fault: "own" } as const;

class ExchangeHandler implements Dispatcher.DispatchHandler {
  readonly #resolve: (result: ExchangeResult) => void;
  readonly #makeRoom: ExchangeOptions["makeRoom"];
  readonly #asReceived: boolean;
  readonly #closesAfterServerError: boolean;
  readonly #deadline: number;
  /** For the reason of a timeout. */
  readonly #limit: string;
  readonly #timer: NodeJS.Timeout;
  /** Set right before the request is written. */
  #controller: Dispatcher.DispatchController | undefined;
  #settled = false;
  #informational = 0;
  #status = 0;
  #headers: Headers = {};
  readonly #chunks: Buffer[] = [];
  #bytes = 0;
  /** By its `content-length`. */
  #isTooLarge = false;
  /** Length of the body after which the connection is closed. */
  #closeAt = Infinity;
  #ended = false;

  constructor(options: ExchangeOptions, resolve: (result: ExchangeResult) => void) {
    const { timeoutMs, within, makeRoom, asReceived = false, closesAfterServerError = false } = options;
    this.#resolve = resolve;
    this.#asReceived = asReceived;
    this.#closesAfterServerError = closesAfterServerError;
    this.#makeRoom = makeRoom;
    this.#deadline = performance.now() + timeoutMs;
    this.#limit = within ?? `${timeoutMs} ms`;
    // After a freeze of this process timers end before it reads what has arrived: that comes first.
    this.#timer = setTimeout(() => setImmediate(() => this.#end()), timeoutMs);
  }

  /** The deadline has passed. */
  #end(): void {
    if (this.#settled) return;
    if (this.#isTooLarge) this.#giveUp(this.#tooLarge());
    else if (this.#controller) {
      this.#giveUp({ kind: "unanswered", reason: `no answer within ${this.#limit}`, fault: "deadline" });
    } else this.#giveUp(this.#noConnection());
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    // The deadline passed while the request waited for a connection. The timer may not have fired yet, as after a pause of this process.
    if (performance.now() >= this.#deadline) this.#settle(this.#noConnection());
    this.#controller = controller;
    if (this.#settled) controller.abort(new Error("too late to be sent"));
  }

  onResponseStart(_controller: Dispatcher.DispatchController, status: number, headers: Headers): void {
    // Informational: the final response follows.
    if (status < 200) {
      if (++this.#informational > maxInformational) this.#giveUp(tooManyInformational);
      return;
    }
    this.#status = status;
    this.#headers = headers;
    this.#isTooLarge = Number(headers["content-length"]) > maxAnswerBytes;
    // Of one that is kept as received the beginning is kept.
    if (this.#isTooLarge && !this.#asReceived) this.#giveUp(this.#tooLarge());
    else if (status >= 500 && this.#closesAfterServerError) {
      this.#closeAt = Number(headers["content-length"] ?? 0);
      if (this.#closeAt === 0) this.#endAndClose();
    }
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#settled) return;
    this.#chunks.push(chunk);
    if (this.#isTooLarge) return this.#giveUp(this.#tooLarge());
    const before = this.#bytes;
    this.#bytes += chunk.length;
    if (this.#bytes >= this.#closeAt) return this.#endAndClose();
    if (this.#bytes > smallAnswerBytes && before <= smallAnswerBytes) {
      this.#waitForRoom(controller).catch((error: unknown) => this.fail(error as Error));
    }
  }

  #endAndClose(): void {
    this.onResponseEnd();
    this.#controller?.abort(new Error("the connection is not used again after a 5xx"));
  }

  onResponseEnd(): void {
    if (this.#ended) return;
    this.#ended = true;
    // Most answers to a delivery have no body.
    if (this.#bytes === 0) return this.#answered(noBody);
    const body = this.#chunks.length === 1 && this.#chunks[0] ? this.#chunks[0] : Buffer.concat(this.#chunks);
    const encoding = String(this.#headers["content-encoding"] ?? "identity").toLowerCase();
    if (encoding === "identity" || this.#asReceived) this.#answered(body);
    else this.#decompress(body, encoding).catch((error: unknown) => this.fail(error as Error));
  }

  #answered(body: Buffer): void {
    const hasMark = body[0] === byteOrderMark[0] && body.subarray(0, byteOrderMark.length).equals(byteOrderMark);
    this.#settle({
      kind: "answered",
      status: this.#status,
      headers: this.#headers,
      body: hasMark ? body.subarray(byteOrderMark.length) : body,
    });
  }

  /** Some servers and proxies apply gzip although the request does not accept compression. */
  async #decompress(body: Buffer, encoding: string): Promise<void> {
    const unreadable = { kind: "unreadable", status: this.#status, headers: this.#headers, encoding } as const;
    if (encoding !== "gzip" && encoding !== "x-gzip") return this.#settle(unreadable);
    // A small body may decompress to a large answer.
    if (!(await this.#makeRoom(this.#deadline - performance.now()))) return this.#settle(noRoom);
    try {
      this.#answered(await unzip(body, { maxOutputLength: maxAnswerBytes }));
    } catch (error) {
      const isTooLarge = (error as { code?: unknown }).code === "ERR_BUFFER_TOO_LARGE";
      this.#settle(isTooLarge ? this.#tooLarge() : unreadable);
    }
  }

  #noConnection(): ExchangeResult {
    return { kind: "unreachable", reason: `no connection within ${this.#limit}`, fault: "deadline" };
  }

  #tooLarge(): ExchangeResult {
    return {
      kind: "answer_too_large",
      status: this.#status,
      headers: this.#headers,
      body: this.#chunks[0] ?? noBody,
    };
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    if (!this.#ended) this.fail(error);
  }

  fail(error: Error & { code?: string }): void {
    if (error instanceof AddressRefused) {
      return this.#settle({ kind: "unreachable", reason: error.message, fault: "service" });
    }
    const code = error.code ?? "";
    if (invalidRequestCodes.has(code)) {
      // The message names the header, and repeats no value.
      return this.#settle({ kind: "unreachable", reason: `the request is invalid: ${error.message}`, fault: "own" });
    }
    // Without a controller nothing was written.
    if (!this.#controller || notSentCodes.has(code) || tlsCodes.test(code)) {
      this.#settle({ kind: "unreachable", reason: code || "no connection", fault: "service" });
    } else if (code === "UND_ERR_RES_EXCEEDED_MAX_SIZE") this.#settle(this.#tooLarge());
    else {
      // The parser's errors have no code, and repeat nothing of the answer.
      const reason =
        error.message === "bad response" ? notAskedFor : `the connection was cut (${code || error.message})`;
      this.#settle({ kind: "unanswered", reason, fault: "service" });
    }
  }

  async #waitForRoom(controller: Dispatcher.DispatchController): Promise<void> {
    controller.pause();
    const hasRoom = await this.#makeRoom(this.#deadline - performance.now());
    if (this.#settled) return;
    if (hasRoom) controller.resume();
    else this.#giveUp(noRoom);
  }

  #giveUp(result: ExchangeResult): void {
    this.#settle(result);
    this.#controller?.abort(new Error("the answer is no longer needed"));
  }

  #settle(result: ExchangeResult): void {
    if (this.#settled) return;
    this.#settled = true;
    clearTimeout(this.#timer);
    this.#resolve(result);
  }
}
