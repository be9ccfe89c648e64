/** What arrives at a door, before Node's server sees it: requests are counted before they are parsed, and connections read in turn. */
import type { Socket } from "node:net";

/** What one read brings at most: where it is as much, there is more. */
const fullReadBytes = 64 * 1024;
/** Ends the first line of every request. JSON and its lines hold no raw line break of this kind. */
const requestLineEnd = Buffer.from(" HTTP/1.1\r\n");

/** Stands between a connection and Node's server, which listens to it already. */
export class DoorInput {
  readonly #socket: Socket;
  readonly #receive: ((this: Socket, chunk: Buffer) => void) | undefined;
  readonly #accepts: (chunk: Buffer) => boolean;
  #ended = false;

  /** @param accepts given what arrives. False: Node's server does not see it; the connection is closed then. */
  constructor(socket: Socket, accepts: (chunk: Buffer) => boolean) {
    this.#socket = socket;
    this.#accepts = accepts;
    [this.#receive] = socket.listeners("data") as ((this: Socket, chunk: Buffer) => void)[];
    if (!this.#receive) throw new Error("nobody listens to a new connection");
    socket.off("data", this.#receive);
    socket.on("data", this.#read);
  }

  /** The connection is upgraded: whoever takes it reads by itself. */
  end(): void {
    this.#ended = true;
    this.#socket.off("data", this.#read);
  }

  readonly #read = (chunk: Buffer): void => {
    if (!this.#accepts(chunk)) return;
    this.#receive?.call(this.#socket, chunk);
    if (chunk.length >= fullReadBytes && !this.#ended) yieldTurn(this.#socket);
  };
}

/** @returns whether more requests than these begin in what arrived. */
export function beginsMoreThan(requests: number, chunk: Buffer): boolean {
  let count = 0;
  for (let at = chunk.indexOf(requestLineEnd); at !== -1; at = chunk.indexOf(requestLineEnd, at + 1)) {
    if (++count > requests) return true;
  }
  return false;
}

/** Others are read before more of this connection, of which Node would otherwise take 2 MiB in one turn of the event loop. */
function yieldTurn(socket: Socket): void {
  // Node's server waits for somebody who takes the body.
  if (socket.isPaused()) return;
  const readOn = stopReading(socket);
  setImmediate(readOn);
}

/** Also where Node's server wants more: it does after each answer and each part of a body that is taken. @returns reads on */
export function stopReading(socket: Socket): () => void {
  const pause = (): void => void socket.pause();
  pause();
  socket.on("resume", pause);
  return () => {
    socket.off("resume", pause);
    socket.resume();
  };
}
