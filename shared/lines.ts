import { StringDecoder } from "node:string_decoder";

/** Cuts a stream of UTF-8 chunks into lines, for newline-delimited JSON. Empty lines are left out. */
export class LineSplitter {
  readonly #decoder = new StringDecoder("utf8");
  readonly #maxLineLength: number;
  #rest = "";

  /** @param maxLineLength in characters; a longer line throws. */
  constructor(maxLineLength: number) {
    this.#maxLineLength = maxLineLength;
  }

  push(chunk: Buffer): string[] {
    const parts = (this.#rest + this.#decoder.write(chunk)).split("\n");
    this.#rest = parts.pop() ?? "";
    if (this.#rest.length > this.#maxLineLength) throw new Error(`a line is longer than ${this.#maxLineLength}`);
    return parts.filter((line) => line !== "");
  }
}

/** Collects lines and hands them over together at the end of the turn of the event loop. */
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
