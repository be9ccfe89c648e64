/** Items on this machine's disk, in the order in which they were written: acknowledged, and not yet in the queues. */
import { mkdir, readdir, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { setImmediate } from "node:timers/promises";
import type { NewItem } from "../../shared/queues/contract.ts";
import { brokerUnavailable } from "../../shared/redis/unavailable.ts";
import type { TidegateError } from "../../shared/runtime/errors.ts";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import type { Logger } from "../../shared/runtime/logging.ts";
import { DirectoryLock } from "./directory-lock.ts";
import { encodeRecord } from "./record.ts";
import { ReplayPosition } from "./replay-position.ts";
import { inspectSegment, mark, readRecords, type Segment, segmentNumber, segmentPath } from "./segment.ts";
import { SegmentWriter, syncDirectory, type SegmentWriterOptions } from "./segment-writer.ts";

/** Room becomes free by whole segments: a sixteenth of the bound at a time. */
const segmentsInBound = 16;
const maxSegmentBytes = 64 * 1024 * 1024;

export interface JournalOptions {
  /** Of this node alone. Created where it does not exist. */
  directory: string;
  /** Of all files together. */
  maxBytes: number;
  /** As in {@link SegmentWriterOptions}. */
  sync?: NonNullable<SegmentWriterOptions["sync"]>;
  logger: Logger;
}

/** The items that are replayed next. */
export interface Batch {
  readonly items: readonly NewItem[];
  readonly segment: Segment;
  /** The offset behind them. */
  readonly next: number;
}

interface Append {
  readonly records: readonly Buffer[];
  readonly bytes: number;
  readonly resolve: () => void;
  readonly reject: (error: TidegateError) => void;
}

/** Appends may be under way at any time; `read` and `commit` take turns. */
export class Journal implements Service {
  readonly directory: string;
  readonly #options: JournalOptions;
  readonly #lock: DirectoryLock;
  readonly #position: ReplayPosition;
  readonly #writer: SegmentWriter;
  /** Oldest first. */
  #segments: Segment[] = [];
  /** Replayed so far, in the first segment. */
  #offset = mark.length;
  #items = 0;
  #oldestAt: number | undefined;
  #waiting: Append[] = [];
  #waitingBytes = 0;
  #flushing: Promise<void> | undefined;
  #isFailing = false;
  #isOpen = false;

  constructor(options: JournalOptions) {
    const { directory, maxBytes, sync } = options;
    this.directory = directory;
    this.#options = options;
    this.#lock = new DirectoryLock(directory);
    this.#position = new ReplayPosition(directory);
    const segmentBytes = Math.min(maxSegmentBytes, maxBytes / segmentsInBound);
    this.#writer = new SegmentWriter({ directory, segmentBytes, ...(sync && { sync }) });
  }

  /** On the disk or on their way to it, files that are replayed in part included. */
  get bytes(): number {
    return this.#segments.reduce((sum, { bytes }) => sum + bytes, this.#waitingBytes);
  }

  /** That are not replayed, those on their way to the disk included. */
  get items(): number {
    return this.#items;
  }

  /** About how long the oldest of them has waited; 0 for none. */
  get oldestMs(): number {
    return this.#oldestAt === undefined ? 0 : Math.max(0, Date.now() - this.#oldestAt);
  }

  /** @throws where the directory cannot be used, or another process uses it */
  async start(): Promise<void> {
    await mkdir(this.directory, { recursive: true, mode: 0o700 });
    await syncDirectory(dirname(this.directory));
    await this.#lock.take();
    const position = await this.#position.open();
    const found = (await readdir(this.directory)).flatMap((name) => segmentNumber(name) ?? []);
    const numbers = found.sort((one, other) => one - other);
    for (const number of numbers) await this.#adopt(number, position);
    this.#writer.beginAfter(Math.max(0, position?.segment ?? 0, ...numbers.slice(-1)));
    this.#isOpen = true;
  }

  /** Writes what is on its way to the disk, and lets another process have the directory. */
  async stop(): Promise<void> {
    this.#isOpen = false;
    await this.flushed();
    await this.#writer.close();
    await this.#position.close();
    await this.#lock.release();
  }

  /**
   * Durable when it resolves, in the order of the calls. What is appended in one turn of the event loop, or while the disk is
   * busy, costs one fsync.
   * @throws TidegateError `broker_unavailable` where there is no room, or the disk fails; then none of the items is kept
   */
  async append(items: readonly NewItem[]): Promise<void> {
    if (!this.#isOpen) throw brokerUnavailable("the message store is out of reach, and the gateway stops");
    const at = Date.now();
    const records = items.map((item) => encodeRecord({ item, at }));
    const bytes = records.reduce((sum, { length }) => sum + length, 0);
    if (this.bytes + bytes > this.#options.maxBytes) {
      throw brokerUnavailable("the message store is out of reach, and the journal is full");
    }
    this.#items += items.length;
    this.#waitingBytes += bytes;
    this.#oldestAt ??= at;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#waiting.push({ records, bytes, resolve, reject });
    this.#flushing ??= this.#flush();
    return promise;
  }

  /** Resolves once nothing is on its way to the disk. */
  async flushed(): Promise<void> {
    await this.#flushing;
  }

  /** The oldest items that are not replayed. @returns undefined: there are none on the disk */
  async read(maxItems: number): Promise<Batch | undefined> {
    await this.#removeReplayed();
    const [segment] = this.#segments;
    if (!segment || this.#offset >= segment.bytes) return undefined;
    const { records } = await readRecords(segment, this.#offset, maxItems);
    const [first, last] = [records[0], records.at(-1)];
    if (!first || !last) throw new Error(`${segment.path} has changed on the disk at ${this.#offset}`);
    this.#oldestAt = first.at;
    return { items: records.map(({ item }) => item), segment, next: last.next };
  }

  /** Call once a batch is in the queues. */
  async commit({ items, segment, next }: Batch): Promise<void> {
    this.#offset = next;
    this.#items -= items.length;
    await this.#position.write({ segment: segment.number, offset: next }).catch((error: unknown) => {
      this.#options.logger.warn({ err: error }, "journal position not written: a restart repeats more than it must");
    });
    if (this.#items > 0) return this.#removeReplayed();
    this.#oldestAt = undefined;
    const segments = this.#segments;
    this.#segments = [];
    this.#offset = mark.length;
    await this.#writer.close();
    for (const { path } of segments) await rm(path, { force: true });
  }

  async #adopt(number: number, position: { segment: number; offset: number } | undefined): Promise<void> {
    const path = segmentPath(this.directory, number);
    const since = position?.segment === number ? position.offset : mark.length;
    const isReplayed = position !== undefined && number < position.segment;
    const found = isReplayed ? undefined : await inspectSegment(this.directory, number, since);
    if (!found) return rm(path, { force: true });
    const { segment, from, items, oldestAt, cutBytes } = found;
    if (cutBytes > 0) {
      this.#options.logger.warn({ path, cutBytes }, "journal ends in a record that was not written whole: cut off");
    }
    if (this.#segments.length === 0) this.#offset = from;
    this.#segments.push(segment);
    this.#items += items;
    this.#oldestAt ??= oldestAt;
  }

  async #flush(): Promise<void> {
    await setImmediate();
    while (this.#waiting.length > 0) {
      const group = this.#waiting;
      this.#waiting = [];
      try {
        const segment = await this.#writer.write(Buffer.concat(group.flatMap(({ records }) => records)));
        if (segment !== this.#segments.at(-1)) this.#segments.push(segment);
        this.#settle(group);
        if (this.#isFailing) this.#options.logger.info("journal can be written again");
        this.#isFailing = false;
        for (const { resolve } of group) resolve();
      } catch (error) {
        this.#settle(group);
        for (const { records } of group) this.#items -= records.length;
        if (!this.#isFailing) this.#options.logger.error({ err: error }, "journal cannot be written");
        this.#isFailing = true;
        const cause = { cause: error };
        const message = "the message store is out of reach, and the journal cannot be written";
        for (const { reject } of group) reject(brokerUnavailable(message, cause));
      }
    }
    this.#flushing = undefined;
  }

  #settle(group: readonly Append[]): void {
    for (const { bytes } of group) this.#waitingBytes -= bytes;
  }

  async #removeReplayed(): Promise<void> {
    for (;;) {
      const [segment] = this.#segments;
      if (!segment || this.#offset < segment.bytes || this.#writer.isWriting(segment)) return;
      this.#segments.shift();
      this.#offset = mark.length;
      await rm(segment.path, { force: true });
    }
  }
}
