/** A request that is served ahead of a door's routes, and its answer. Services treat requests that Node's server has parsed and plain ones alike. */
import { type IncomingMessage, type ServerResponse, STATUS_CODES, validateHeaderValue } from "node:http";
import type { Socket } from "node:net";
import type { TidegateError } from "../runtime/errors.ts";
import type { PlainRequest } from "./plain-request.ts";
import { problemAnswer, writeProblem } from "./problems.ts";

export interface Answer {
  readonly status: number;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  readonly text?: string | undefined;
}

export type RequestLine = Pick<IncomingMessage, "method" | "url">;
export type RequestHead = Pick<IncomingMessage, "method" | "url" | "headers" | "socket">;

/** @returns what serves a request; undefined: the routes do. Where that throws, or its promise rejects, the door closes the connection. */
export type DirectService = (request: RequestLine) => ((exchange: Exchange) => unknown) | undefined;

export interface Exchange extends RequestHead {
  /** The body, or the message whose body is still to be read. */
  readonly body: Buffer | IncomingMessage;
  /** The connection closes after the answer. Call before it. */
  closeAfter(): void;
  /** Call once the sender is known: the connection gives way to no other until the answer has been sent. */
  vouch(): void;
  answer(answer: Answer): void;
  refuse(error: TidegateError): void;
}

/** Of Node's server. */
export class NodeExchange implements Exchange {
  readonly body: IncomingMessage;
  readonly #response: ServerResponse;
  readonly #onVouched: () => void;

  constructor(request: IncomingMessage, response: ServerResponse, onVouched: () => void) {
    this.body = request;
    this.#response = response;
    this.#onVouched = onVouched;
  }

  get method(): string | undefined {
    return this.body.method;
  }

  get url(): string | undefined {
    return this.body.url;
  }

  get headers(): IncomingMessage["headers"] {
    return this.body.headers;
  }

  get socket(): Socket {
    return this.body.socket;
  }

  closeAfter(): void {
    this.#response.setHeader("connection", "close");
  }

  vouch(): void {
    this.#onVouched();
  }

  answer({ status, headers, text }: Answer): void {
    const response = this.#response;
    response.statusCode = status;
    for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
    response.end(text);
  }

  refuse(error: TidegateError): void {
    writeProblem(this.body, this.#response, error);
  }
}

/** Of a {@link PlainRequest}. Its answer is that of Node's server, byte for byte. */
export class PlainExchange implements Exchange {
  readonly method: string;
  readonly url: string;
  readonly headers: PlainRequest["headers"];
  readonly body: Buffer;
  readonly socket: Socket;
  readonly #options: PlainExchangeOptions;
  #closes = false;

  constructor({ method, url, headers, body }: PlainRequest, socket: Socket, options: PlainExchangeOptions) {
    this.method = method;
    this.url = url;
    this.headers = headers;
    this.body = body;
    this.socket = socket;
    this.#options = options;
  }

  closeAfter(): void {
    this.#closes = true;
  }

  vouch(): void {
    this.#options.onVouched();
  }

  answer(answer: Answer): void {
    const { socket } = this;
    const { idleSeconds, onAnswered } = this.#options;
    // Gone, or half closed: Node's server gives no answer either.
    if (!socket.writable) return onAnswered();
    socket.write(answerText(answer, this.#closes ? undefined : idleSeconds), onAnswered);
    if (this.#closes) socket.destroySoon();
  }

  refuse(error: TidegateError): void {
    this.answer(problemAnswer(error));
  }
}

export interface PlainExchangeOptions {
  readonly onVouched: () => void;
  /** How long the connection stays open until the next request. */
  readonly idleSeconds: number;
  /** The answer has been passed on to the system, or there is nobody to get it. */
  readonly onAnswered: () => void;
}

/** @param idleSeconds undefined: the connection closes */
function answerText({ status, headers, text = "" }: Answer, idleSeconds: number | undefined): string {
  let head = `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? "unknown"}\r\n`;
  if (idleSeconds === undefined) head += "connection: close\r\n";
  for (const [name, value] of Object.entries(headers)) {
    validateHeaderValue(name, value);
    head += `${name}: ${value}\r\n`;
  }
  head += `Date: ${dateText()}\r\n`;
  if (idleSeconds !== undefined) head += `Connection: keep-alive\r\nKeep-Alive: timeout=${idleSeconds}\r\n`;
  if (status === 204 || status === 304) return `${head}\r\n`;
  return `${head}Content-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`;
}

let dateSecond = 0;
let date = "";

function dateText(): string {
  const now = Date.now();
  const second = Math.floor(now / 1_000);
  if (second !== dateSecond) {
    dateSecond = second;
    date = new Date(now).toUTCString();
  }
  return date;
}
