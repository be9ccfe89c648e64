/**
 * Reads the heads of websocket frames (RFC 6455, 5.2) before the library does: frames are counted, and their lengths known,
 * before anything of them is buffered or parsed. Violations of the protocol are left to the library. Pure.
 */

/** The longest head: two bytes, a length of eight, a mask of four. */
const maxHeadLength = 14;

export interface FrameHead {
  opcode: number;
  /** The last frame of its message. */
  fin: boolean;
  /** Of the payload, in bytes. */
  length: number;
}

/** Reused for every frame of every connection: valid until the next frame. */
const head: FrameHead = { opcode: 0, fin: true, length: 0 };

export class FrameScanner {
  readonly #onFrame: (head: Readonly<FrameHead>) => boolean;
  /** Bytes of the current payload that have not arrived. */
  #toSkip = 0;
  /** The first bytes of a head whose rest has not arrived. */
  #torn: Buffer | undefined;

  /** @param onFrame called with each head; returns whether to read on. */
  constructor(onFrame: (head: Readonly<FrameHead>) => boolean) {
    this.#onFrame = onFrame;
  }

  /** @returns false once `onFrame` has: the caller reads no more of this connection. */
  scan(chunk: Buffer): boolean {
    let at = this.#skip(chunk, 0);
    while (at < chunk.length) {
      const torn = this.#torn;
      const bytes = torn ? Buffer.concat([torn, chunk.subarray(at, at + maxHeadLength)]) : chunk;
      const start = torn ? 0 : at;
      const headLength = readHead(bytes, start);
      if (headLength === 0) {
        this.#torn = Buffer.from(bytes.subarray(start));
        return true;
      }
      this.#torn = undefined;
      this.#toSkip = head.length;
      if (!this.#onFrame(head)) return false;
      at = this.#skip(chunk, at + headLength - (torn?.length ?? 0));
    }
    return true;
  }

  /** @returns where the payload or the chunk ends. */
  #skip(chunk: Buffer, at: number): number {
    const skipped = Math.min(this.#toSkip, chunk.length - at);
    this.#toSkip -= skipped;
    return at + skipped;
  }
}

/** Fills {@link head}. @returns the length of the head; 0 where it is incomplete. */
function readHead(bytes: Buffer, at: number): number {
  const available = bytes.length - at;
  if (available < 2) return 0;
  const [first, second] = [bytes[at] ?? 0, bytes[at + 1] ?? 0];
  const short = second & 0x7f;
  const extended = short < 126 ? 0 : short === 126 ? 2 : 8;
  const headLength = 2 + extended + (second & 0x80 ? 4 : 0);
  if (available < headLength) return 0;
  head.opcode = first & 0x0f;
  head.fin = (first & 0x80) !== 0;
  head.length =
    extended === 0 ? short : extended === 2 ? bytes.readUInt16BE(at + 2) : Number(bytes.readBigUInt64BE(at + 2));
  return headLength;
}
