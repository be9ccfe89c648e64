/** One line of a stream, without its line break. */
export interface Line {
  bytes: Buffer;
  /** The line exceeds the bound; `bytes` is its beginning. */
  cut: boolean;
}

const lineBreak = 0x0a;
const firstRoomBytes = 4 * 1024;

/**
 * Splits a stream into lines, for newline-delimited JSON. Skips empty lines. Truncates a line that exceeds the bound without
 * buffering the rest; the next line is intact. Takes linear time whatever the size of the chunks.
 */
export class LineSplitter {
  readonly #maxLineBytes: number;
  /** The first `#restBytes` bytes are the incomplete line. */
  #rest = Buffer.alloc(0);
  #restBytes = 0;
  #cut = false;

  constructor(maxLineBytes: number) {
    this.#maxLineBytes = maxLineBytes;
  }

  push(chunk: Buffer): Line[] {
    const lines: Line[] = [];
    let from = 0;
    for (let end = chunk.indexOf(lineBreak); end !== -1; end = chunk.indexOf(lineBreak, from)) {
      const line = this.#complete(chunk.subarray(from, end));
      if (line.bytes.length > 0) lines.push(line);
      from = end + 1;
    }
    if (from < chunk.length) this.#keep(chunk.subarray(from));
    return lines;
  }

  #complete(end: Buffer): Line {
    if (this.#restBytes === 0 && end.length <= this.#maxLineBytes) return { bytes: end, cut: false };
    this.#keep(end);
    const line = { bytes: this.#rest.subarray(0, this.#restBytes), cut: this.#cut };
    this.#rest = Buffer.alloc(0);
    this.#restBytes = 0;
    this.#cut = false;
    return line;
  }

  #keep(part: Buffer): void {
    const kept = part.subarray(0, this.#maxLineBytes - this.#restBytes);
    if (kept.length < part.length) this.#cut = true;
    const bytes = this.#restBytes + kept.length;
    if (bytes > this.#rest.length) {
      // Doubling keeps the copying linear for a line that arrives byte by byte.
      const room = Math.min(this.#maxLineBytes, Math.max(firstRoomBytes, 2 * bytes));
      const larger = Buffer.allocUnsafe(room);
      this.#rest.copy(larger, 0, 0, this.#restBytes);
      this.#rest = larger;
    }
    kept.copy(this.#rest, this.#restBytes);
    this.#restBytes = bytes;
  }
}

/** Collects lines and writes them together at the end of the turn of the event loop. */
export class LineBatcher {
  readonly #write: (lines: string) => void;
  #pending = "";

  constructor(write: (lines: string) => void) {
    this.#write = write;
  }

  add(line: string): void {
    if (this.#pending === "") setImmediate(() => this.flush());
    this.#pending += `${line}\n`;
  }

  flush(): void {
    if (this.#pending === "") return;
    const lines = this.#pending;
    this.#pending = "";
    this.#write(lines);
  }
}
