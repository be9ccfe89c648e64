/** Input of a door before Node's server parses it: counts pipelined requests, and lets connections be read in turn. */
import type { Socket } from "node:net";
import { type PlainRequest, readPlainRequest } from "./plain-request.ts";

/** Most bytes of one read. A full read means that more is waiting. */
const fullReadBytes = 64 * 1024;
/** Less than this costs the parser little, whatever it is. */
const fewBytes = 4 * 1024;
const headEnd = Buffer.from("\r\n\r\n");
/** Connections that {@link stopReading} holds. */
const stopped = new WeakSet<Socket>();
/** Ends the first line of every request. JSON contains no raw CR LF. */
const requestLineEnd = Buffer.from(" HTTP/1.1\r\n");

export interface DoorInputOptions {
  /** False: Node's server does not see the chunk, and the caller closes the connection. */
  readonly accepts: (chunk: Buffer) => boolean;
  /** False: Node's server gets the request. True: the caller answers it, and calls {@link DoorInput.answered}. */
  readonly serves: (request: PlainRequest) => boolean;
}

/**
 * Sits between a connection and Node's server, which must already listen to the connection.
 *
 * A plain request may be served past Node's server while Node's parser has received only whole plain requests of the connection, one at
 * least: then the parser expects a new request, and Node's timer of an idle connection runs since its answer to that one. Anything else
 * that arrives goes to Node's parser, and so does all input of the connection after it.
 */
export class DoorInput {
  readonly #socket: Socket;
  readonly #receive: ((this: Socket, chunk: Buffer) => void) | undefined;
  readonly #options: DoorInputOptions;
  #parsed: "nothing" | "plain" | "other" = "nothing";
  /** While a request is answered past Node's server. Later ones wait: Node's answers would overtake this one. */
  #isAnswering = false;
  /** Of what waits. */
  #readOn: (() => void) | undefined;
  #ended = false;

  constructor(socket: Socket, options: DoorInputOptions) {
    this.#socket = socket;
    this.#options = options;
    [this.#receive] = socket.listeners("data") as ((this: Socket, chunk: Buffer) => void)[];
    if (!this.#receive) throw new Error("no listener on a new connection");
    socket.off("data", this.#receive);
    socket.on("data", this.#read);
  }

  /** Call on an upgrade: the new owner of the connection reads by itself. */
  end(): void {
    this.#ended = true;
    this.#socket.off("data", this.#read);
  }

  /** The answer to the request that was served past Node's server has been sent. */
  answered(): void {
    // The answer ends the connection: a request behind it would be served, and get no answer.
    if (!this.#socket.writable) return;
    this.#isAnswering = false;
    this.#readOn?.();
    this.#readOn = undefined;
  }

  readonly #read = (chunk: Buffer): void => {
    if (!this.#options.accepts(chunk)) return;
    if (this.#isAnswering) {
      this.#readOn ??= stopReading(this.#socket);
      this.#socket.unshift(chunk);
      return;
    }
    const plain = this.#parsed === "other" ? undefined : readPlainRequest(chunk);
    if (plain && this.#parsed === "plain") {
      this.#isAnswering = true;
      if (this.#options.serves(plain)) return;
      this.#isAnswering = false;
    }
    this.#parsed = plain ? "plain" : "other";
    const bodyAt = bodyIn(chunk);
    if (bodyAt > 0) {
      this.#receive?.call(this.#socket, chunk.subarray(0, bodyAt));
      // Refused by its head: the parser would call back for each small part of the body.
      if (stopped.has(this.#socket) || this.#socket.destroyed) return;
      if (this.#socket.isPaused()) {
        // Node waits for a body, whatever that looks like.
        this.#parsed = "other";
        this.#socket.unshift(chunk.subarray(bodyAt));
        return;
      }
    }
    this.#receive?.call(this.#socket, bodyAt > 0 ? chunk.subarray(bodyAt) : chunk);
    if (chunk.length >= fullReadBytes && !this.#ended) yieldTurn(this.#socket);
  };
}

/** Where the body begins that came with the head of a request; 0: it is parsed with the head. */
function bodyIn(chunk: Buffer): number {
  if (chunk.length <= fewBytes) return 0;
  const at = chunk.indexOf(headEnd) + headEnd.length;
  if (at < headEnd.length || at === chunk.length) return 0;
  // What follows an upgrade belongs to the new owner of the connection.
  return /\r\nupgrade:/i.test(chunk.toString("latin1", 0, at)) ? 0 : at;
}

/** @returns whether more than `requests` requests begin in the chunk. */
export function beginsMoreThan(requests: number, chunk: Buffer): boolean {
  let count = 0;
  for (let at = chunk.indexOf(requestLineEnd); at !== -1; at = chunk.indexOf(requestLineEnd, at + 1)) {
    if (++count > requests) return true;
  }
  return false;
}

/** Reads other connections first. Otherwise Node would read 2 MiB of this one in one turn of the event loop. */
function yieldTurn(socket: Socket): void {
  // Paused by Node's server until the body is read.
  if (socket.isPaused()) return;
  const readOn = stopReading(socket);
  setImmediate(readOn);
}

/** Stays in effect when Node's server resumes the socket, as it does after each answer. @returns a function that resumes reading. */
export function stopReading(socket: Socket): () => void {
  const pause = (): void => void socket.pause();
  pause();
  stopped.add(socket);
  socket.on("resume", pause);
  return () => {
    stopped.delete(socket);
    socket.off("resume", pause);
    socket.resume();
  };
}
