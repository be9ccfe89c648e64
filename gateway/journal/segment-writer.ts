/** Writes groups of records behind each other, and makes each durable before it counts. */
import { type FileHandle, open, rm } from "node:fs/promises";
import { mark, type Segment, segmentPath } from "./segment.ts";

export interface SegmentWriterOptions {
  readonly directory: string;
  /** A segment that has so many gets no more groups. */
  readonly segmentBytes: number;
  /** Makes what was written durable. Default: fdatasync. */
  readonly sync?: (file: FileHandle) => Promise<void>;
}

/** One call at a time. */
export class SegmentWriter {
  readonly #options: Required<SegmentWriterOptions>;
  #open: { segment: Segment; file: FileHandle } | undefined;
  #lastNumber = 0;

  constructor(options: SegmentWriterOptions) {
    this.#options = { sync: async (file) => file.datasync(), ...options };
  }

  /** Call before the first write. @param number of the last segment that the directory has had */
  beginAfter(number: number): void {
    this.#lastNumber = number;
  }

  isWriting(segment: Segment): boolean {
    return this.#open?.segment === segment;
  }

  /**
   * The group is durable when it resolves.
   * @returns the segment that holds it
   * @throws if the group cannot be written: it leaves nothing behind, and the next group begins a new segment
   */
  async write(group: Buffer): Promise<Segment> {
    if (this.#open && this.#open.segment.bytes >= this.#options.segmentBytes) await this.close();
    const isNew = !this.#open;
    const { segment, file } = (this.#open ??= await this.#create());
    try {
      const written = isNew ? Buffer.concat([mark, group]) : group;
      await writeAll(file, written, segment.bytes);
      await this.#options.sync(file);
      if (isNew) await syncDirectory(this.#options.directory);
      segment.bytes += written.length;
      return segment;
    } catch (error) {
      this.#open = undefined;
      await discard(file, segment);
      throw error;
    }
  }

  /** The next group begins a segment. */
  async close(): Promise<void> {
    const open = this.#open;
    this.#open = undefined;
    await open?.file.close();
  }

  async #create(): Promise<{ segment: Segment; file: FileHandle }> {
    const number = ++this.#lastNumber;
    const path = segmentPath(this.#options.directory, number);
    // Readable for the gateway's user only: records hold what customers send.
    const file = await open(path, "wx", 0o600);
    return { segment: { number, path, bytes: 0 }, file };
  }
}

async function writeAll(file: FileHandle, bytes: Buffer, from: number): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, from + done);
    done += bytesWritten;
  }
}

/** Where the disk does not even do this, the next start cuts off what is left. */
async function discard(file: FileHandle, { path, bytes }: Segment): Promise<void> {
  await Promise.allSettled([file.truncate(bytes)]);
  await Promise.allSettled([file.close()]);
  if (bytes === 0) await Promise.allSettled([rm(path, { force: true })]);
}

/** Without it what is new in a directory may be gone after a loss of power. */
export async function syncDirectory(directory: string): Promise<void> {
  const file = await open(directory, "r");
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}
