import { stateOfStream } from "../channels/keys.ts";
import { comparePlaces } from "../changes/places.ts";
import { slotPrefix } from "../queues/keys.ts";
import { bytesOf } from "../redis/client.ts";
import type { RedisConnections } from "../redis/connections.ts";
import { script } from "../redis/scripts.ts";
import type { Arrival } from "./arrival.ts";

/** Elements of a queue, two for each item, or entries of a history or change log, that are copied whole. */
const maxWhole = 256;
/** Of the elements or entries of one part. */
const partBytes = 128 * 1024;

interface StreamCopy {
  /** Id of its last entry; `""` before the first. */
  readonly last: string;
  readonly epoch: string;
}
const nothingCopied: StreamCopy = { last: "", epoch: "" };

type StreamPart = [
  isNew: 0 | 1,
  first: string,
  newest: string,
  ttlMs: number,
  epoch: string,
  ...entries: [id: string, fields: string[]][],
];

const readListScript = script<string[]>(new URL("read-list.lua", import.meta.url), 1);
const appendListScript = script<0 | 1>(new URL("append-list.lua", import.meta.url), 2);
const readStreamScript = script<StreamPart | null>(new URL("read-stream.lua", import.meta.url), 2);
const appendStreamScript = script<0 | 1>(new URL("append-stream.lua", import.meta.url), 2);

/**
 * Copies long queues, histories and change logs in parts, so that neither cell stalls, and continues where they grew: a round copies
 * what was added since the one before. All of them lose their head and grow at the tail.
 */
export class LongCopies {
  readonly #source: RedisConnections;
  readonly #arrival: Arrival;
  /** Lists that are copied in parts → the number of the last item that was. */
  readonly #lists = new Map<string, number>();
  readonly #streams = new Map<string, StreamCopy>();

  constructor({ source, arrival }: { source: RedisConnections; arrival: Arrival }) {
    this.#source = source;
    this.#arrival = arrival;
  }

  /** Whether the key is to be copied with {@link copy}. */
  async isLong(slot: number, key: string): Promise<boolean> {
    if (this.#lists.has(key) || this.#streams.has(key)) return true;
    const { root } = this.#source;
    if (stateOfStream(root, slot, key) !== undefined) return (await this.#source.run<number>("xlen", key)) > maxWhole;
    if (!key.startsWith(`${slotPrefix(root, slot)}q:`)) return false;
    return (await this.#source.run<number>("llen", key)) > maxWhole;
  }

  async copy(slot: number, key: string): Promise<void> {
    const state = stateOfStream(this.#source.root, slot, key);
    await (state === undefined ? this.#copyList(slot, key) : this.#copyStream(slot, key, state));
  }

  /** Two elements for each item, the first of which begins with a growing number. */
  async #copyList(slot: number, key: string): Promise<void> {
    if (!this.#lists.has(key)) await this.#arrival.remove(slot, key);
    for (;;) {
      const last = this.#lists.get(key) ?? 0;
      const [first, ...elements] = await this.#source.run(readListScript, key, last, partBytes);
      if (first === undefined) {
        this.#lists.delete(key);
        return this.#arrival.remove(slot, key);
      }
      await this.#arrival.run(appendListScript, slot, key, first, ...elements);
      this.#lists.set(key, Number.parseInt(elements.at(-2) ?? String(last), 10));
      if (bytesOf(elements) < partBytes) return;
    }
  }

  /** Copies what it has at the beginning of the call. Entries that arrive meanwhile are reported as a change of the key. */
  async #copyStream(slot: number, key: string, state: string): Promise<void> {
    let until: string | undefined;
    for (;;) {
      const { last, epoch } = this.#streams.get(key) ?? nothingCopied;
      const part = await this.#source.run(readStreamScript, key, state, last, epoch, partBytes);
      if (part === null) {
        this.#streams.delete(key);
        return this.#arrival.remove(slot, key);
      }
      const [isNew, first, newest, ttlMs, newEpoch, ...entries] = part;
      const listed = entries.flatMap(([id, fields]) => [id, fields.length, ...fields]);
      await this.#arrival.run(appendStreamScript, slot, key, isNew, first, ttlMs, ...listed);
      const copied = entries.at(-1)?.[0] ?? last;
      this.#streams.set(key, { last: copied, epoch: newEpoch });
      if (isNew === 1 || until === undefined) until = newest;
      if (comparePlaces(copied, until) >= 0) return;
    }
  }
}
