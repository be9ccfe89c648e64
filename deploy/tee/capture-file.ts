/** A file of lines that is only added to. Each line is durable when its append resolves. */
import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";

const lineFeed = 0x0a;
const searchBytes = 64 * 1024;

export class CaptureFull extends Error {}

export class CaptureFile {
  /** Cut off at the opening: a line that was not written whole. */
  readonly cutBytes: number;
  readonly #file: FileHandle;
  readonly #path: string;
  readonly #maxBytes: number;
  #bytes: number;
  #waiting: { line: Buffer; resolve: () => void; reject: (error: Error) => void }[] = [];
  #writing: Promise<void> | undefined;

  /** Close it. @param maxBytes of the whole file. @throws where it cannot be opened */
  static async open(path: string, maxBytes: number): Promise<CaptureFile> {
    // Readable for this user only: it holds what customers get.
    const file = await open(path, constants.O_RDWR | constants.O_CREAT, 0o600);
    try {
      const { size } = await file.stat();
      const whole = await endOfLastLine(file, size);
      if (whole < size) await file.truncate(whole);
      return new CaptureFile({ file, path, maxBytes, bytes: whole, cutBytes: size - whole });
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  private constructor(of: { file: FileHandle; path: string; maxBytes: number; bytes: number; cutBytes: number }) {
    this.#file = of.file;
    this.#path = of.path;
    this.#maxBytes = of.maxBytes;
    this.#bytes = of.bytes;
    this.cutBytes = of.cutBytes;
  }

  /** In the order of the calls. Lines that are added while the disk is busy share one fsync. @throws Error where it is not kept */
  async append(value: object): Promise<void> {
    const line = Buffer.from(`${JSON.stringify(value)}\n`);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#waiting.push({ line, resolve, reject });
    this.#writing ??= this.#write().finally(() => {
      this.#writing = undefined;
    });
    return promise;
  }

  /** After what was appended. */
  async close(): Promise<void> {
    await this.#writing;
    await this.#file.close();
  }

  async #write(): Promise<void> {
    while (this.#waiting.length > 0) {
      const group = this.#waiting;
      this.#waiting = [];
      try {
        await this.#writeGroup(Buffer.concat(group.map(({ line }) => line)));
        for (const { resolve } of group) resolve();
      } catch (error) {
        for (const { reject } of group) reject(error as Error);
      }
    }
  }

  async #writeGroup(group: Buffer): Promise<void> {
    if (this.#bytes + group.length > this.#maxBytes) {
      throw new CaptureFull(`${this.#path} is full: move it away and restart the tee, or raise --max-bytes`);
    }
    const { size } = await this.#file.stat();
    if (size !== this.#bytes) throw new Error(`${this.#path} was changed by another process`);
    try {
      for (let done = 0; done < group.length;) {
        const { bytesWritten } = await this.#file.write(group, done, group.length - done, this.#bytes + done);
        done += bytesWritten;
      }
      await this.#file.datasync();
      this.#bytes += group.length;
    } catch (error) {
      // A part of a line must not stand in front of the next one.
      await this.#file.truncate(this.#bytes);
      throw error;
    }
  }
}

/** @returns where the next line begins. */
async function endOfLastLine(file: FileHandle, size: number): Promise<number> {
  for (let to = size; to > 0;) {
    const from = Math.max(0, to - searchBytes);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(to - from), 0, to - from, from);
    const at = buffer.subarray(0, bytesRead).lastIndexOf(lineFeed);
    if (at !== -1) return from + at + 1;
    to = from;
  }
  return 0;
}
