/** Reads the lines of a file, one at a time. */
import { createReadStream } from "node:fs";
import { BadLine } from "./bad-line.ts";

/** Longer than a line of the tee with the longest body, in base64. */
export const maxLineBytes = 64 * 1024 * 1024;
const lineFeed = 0x0a;

export interface FileLine {
  /** From 1 on. */
  readonly number: number;
  readonly text: string;
  /** No line end follows: its writer may have been killed in the middle of it. */
  readonly isOpen: boolean;
}

/** Without empty lines. @throws BadLine */
export async function* fileLines(path: string): AsyncGenerator<FileLine> {
  let parts: Buffer[] = [];
  let bytes = 0;
  let number = 1;
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
    for (let from = 0; from < chunk.length;) {
      const end = chunk.indexOf(lineFeed, from);
      const part = chunk.subarray(from, end === -1 ? chunk.length : end);
      parts.push(part);
      bytes += part.length;
      if (bytes > maxLineBytes) throw new BadLine(path, number, `is longer than ${maxLineBytes} bytes`);
      if (end === -1) break;
      const text = Buffer.concat(parts).toString().trim();
      if (text !== "") yield { number, text, isOpen: false };
      [parts, bytes] = [[], 0];
      number++;
      from = end + 1;
    }
  }
  const text = Buffer.concat(parts).toString().trim();
  if (text !== "") yield { number, text, isOpen: true };
}
