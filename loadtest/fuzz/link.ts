/** One TCP connection: writes bytes in pieces, counts what comes back, and ends in several ways. */
import { connect, type Socket } from "node:net";
import { setImmediate as nextTurn } from "node:timers/promises";
import { nextAddress } from "../../test/support/next-address.ts";
import { opcodes, ServerFrames } from "../../test/support/raw-websocket.ts";

/** Limit of segments per write. */
const maxSegments = 400;
const statusLine = Buffer.from("HTTP/1.1 ");
/** Characters of the last text that are kept. */
const keptText = 4_000;

export class Link {
  readonly #socket: Socket;
  readonly #frames = new ServerFrames();
  #isWebsocket = false;
  #isEnding = false;
  #changed: () => void = () => undefined;
  #lastChangeMs = performance.now();
  closed = false;
  /** The server ended the connection, not this side. */
  closedByServer = false;
  /** Status lines received. */
  answers = 0;
  /** The last text received. */
  text = "";
  texts = 0;
  /** The highest mark that a pong returned. */
  marked = 0;
  receivedBytes = 0;

  constructor(port: number) {
    const own = { localAddress: nextAddress(), noDelay: true, allowHalfOpen: true };
    this.#socket = connect({ port, host: "127.0.0.1", ...own });
    this.#socket.on("data", (chunk: Buffer) => this.#take(chunk));
    // Broken connections are expected.
    this.#socket.on("error", () => this.#socket.destroy());
    this.#socket.on("end", () => this.#close());
    this.#socket.on("close", () => this.#close());
  }

  /** From now on the server sends frames. */
  becomeWebsocket(): void {
    this.#isWebsocket = true;
  }

  /** Resolves when the operating system has the bytes, or the connection has ended. */
  async write(bytes: Buffer, segmentBytes?: number): Promise<void> {
    if (segmentBytes === undefined) return this.#write(bytes);
    const size = Math.max(segmentBytes, Math.ceil(bytes.length / maxSegments));
    for (let at = 0; at < bytes.length && !this.closed; at += size) {
      await this.#write(bytes.subarray(at, at + size));
      await nextTurn();
    }
  }

  /**
   * Resolves once `isDone`, or the connection has ended, or the server has been silent for so long.
   *
   * @returns isDone()
   */
  async until(isDone: () => boolean, silentMs: number): Promise<boolean> {
    this.#lastChangeMs = performance.now();
    while (!isDone() && !this.closed) {
      const leftMs = silentMs - (performance.now() - this.#lastChangeMs);
      if (leftMs <= 0) break;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, leftMs);
        this.#changed = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    return isDone();
  }

  stopReading(): void {
    this.#socket.pause();
  }

  halfClose(): void {
    this.#isEnding = true;
    this.#socket.end();
  }

  reset(): void {
    this.#isEnding = true;
    this.#socket.resetAndDestroy();
  }

  destroy(): void {
    this.#isEnding = true;
    this.#socket.destroy();
  }

  async #write(bytes: Buffer): Promise<void> {
    if (this.closed || this.#socket.destroyed) return;
    await new Promise<void>((resolve) => {
      this.#socket.once("close", resolve);
      this.#socket.write(bytes, () => {
        this.#socket.off("close", resolve);
        resolve();
      });
    });
  }

  #take(chunk: Buffer): void {
    this.receivedBytes += chunk.length;
    if (this.#isWebsocket) this.#takeFrames(chunk);
    else this.#takeHttp(chunk);
    this.#notify();
  }

  #takeHttp(chunk: Buffer): void {
    for (let at = chunk.indexOf(statusLine); at !== -1; at = chunk.indexOf(statusLine, at + 1)) this.answers++;
    this.text = (this.text + chunk.toString("latin1")).slice(-keptText);
    const end = this.text.indexOf("\r\n\r\n");
    // The first frames of a websocket may come together with the head of the answer.
    if (!this.text.startsWith("HTTP/1.1 101") || end === -1) return;
    const behind = chunk.length - (this.text.length - end - 4);
    this.becomeWebsocket();
    this.#takeFrames(chunk.subarray(Math.max(0, behind)));
  }

  #takeFrames(chunk: Buffer): void {
    for (const { opcode, payload } of this.#frames.frames(chunk)) {
      if (opcode === opcodes.pong && payload.length === 4) this.marked = Math.max(this.marked, payload.readUInt32BE());
      // The server waits for a close frame in return, which none of these clients sends.
      if (opcode === opcodes.close) this.closed = true;
      if (opcode !== opcodes.text) continue;
      this.texts++;
      this.text = payload.toString("utf8", 0, keptText);
      this.onText(this.text);
    }
  }

  onText: (text: string) => void = () => undefined;

  #close(): void {
    if (!this.#isEnding) this.closedByServer = true;
    this.closed = true;
    this.#notify();
  }

  #notify(): void {
    this.#lastChangeMs = performance.now();
    const changed = this.#changed;
    this.#changed = () => undefined;
    changed();
  }
}
