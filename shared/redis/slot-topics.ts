/**
 * Follows topics at the cells that own their slots. While a slot moves, its topics are subscribed at both cells, so that nothing
 * published at either is missed.
 */
import type { Logger } from "../runtime/logging.ts";
import type { CellMap } from "./cell-map.ts";
import { isBug } from "./client.ts";
import type { RedisConnections } from "./connections.ts";
import type { TopicListener } from "./subscriptions.ts";

const retryMs = 500;

export class SlotTopics {
  readonly #cells: ReadonlyMap<string, RedisConnections>;
  readonly #logger: Logger;
  readonly #listeners: TopicListener[] = [];
  /** Topics that are followed, by slot. */
  readonly #topics = new Map<number, Set<string>>();
  /** By slot, the cells at which all of its topics are subscribed. */
  readonly #subscribedAt = new Map<number, Set<string>>();
  #map: CellMap | undefined;
  #settledVersion = 0;
  #isSettling = false;
  /** A topic was added that may have been missed by what is under way. */
  #isIncomplete = false;
  #retry: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(cells: ReadonlyMap<string, RedisConnections>, logger: Logger) {
    this.#cells = cells;
    this.#logger = logger;
  }

  /** The newest map for which every topic is subscribed where it says. */
  get version(): number {
    return this.#settledVersion;
  }

  listen(listener: TopicListener): void {
    this.#listeners.push(listener);
  }

  use(map: CellMap): void {
    if (this.#map && map.version <= this.#map.version) return;
    this.#map = map;
    this.#settle();
  }

  /** Resolves once this process receives everything published from now on. A slot that no cell owns yet has no publications. */
  async subscribe(slot: number, topic: string): Promise<void> {
    const topics = this.#topics.get(slot) ?? new Set();
    this.#topics.set(slot, topics);
    topics.add(topic);
    const [owner, ...others] = this.#placesOf(slot);
    // The slot's first topic: all of them are subscribed at the owner, one by one.
    if (!this.#subscribedAt.has(slot)) this.#subscribedAt.set(slot, new Set(owner === undefined ? [] : [owner]));
    try {
      if (!this.#map) throw new Error("the map of cells is not known yet");
      if (owner === undefined) return;
      await this.#at(owner).subscribe(topic);
    } catch (error) {
      topics.delete(topic);
      throw error;
    }
    for (const cell of new Set([...others, ...(this.#subscribedAt.get(slot) ?? [])])) {
      if (cell === owner) continue;
      await this.#at(cell)
        .subscribe(topic)
        // Of the set that is in force: `follow` may have replaced the one from before.
        .catch(() => this.#subscribedAt.get(slot)?.delete(cell));
    }
    // The slot may have begun to move meanwhile.
    this.#settle();
  }

  /** As {@link subscribe}. If that fails, subscribes as soon as the cell can be reached, and calls listeners (`onRestored`). */
  async follow(slot: number, topic: string): Promise<void> {
    try {
      await this.subscribe(slot, topic);
    } catch (error) {
      if (isBug(error)) throw error;
      this.#topics.set(slot, (this.#topics.get(slot) ?? new Set()).add(topic));
      this.#subscribedAt.delete(slot);
      this.#isIncomplete = true;
      this.#settle();
    }
  }

  async unsubscribe(slot: number, topic: string): Promise<void> {
    const topics = this.#topics.get(slot);
    topics?.delete(topic);
    const at = [...(this.#subscribedAt.get(slot) ?? [])];
    if (topics?.size === 0) {
      this.#topics.delete(slot);
      this.#subscribedAt.delete(slot);
    }
    await Promise.all(at.map(async (cell) => this.#at(cell).unsubscribe(topic)));
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#retry);
    this.#listeners.length = 0;
  }

  /** The owner first. */
  #placesOf(slot: number): readonly string[] {
    const { owners = [], moves = [] } = this.#map ?? {};
    const owner = owners[slot];
    const move = moves.find(({ slots, step }) => step !== "waiting" && slots.includes(slot));
    const other = move && (move.from === owner ? move.to : move.from);
    return [owner, move?.step === "aborting" ? undefined : other].filter((cell) => cell !== undefined);
  }

  #isMoving(slot: number): boolean {
    return this.#map?.moves.some(({ slots, step }) => step !== "waiting" && slots.includes(slot)) === true;
  }

  #at(cell: string): RedisConnections["topics"] {
    const connections = this.#cells.get(cell);
    if (!connections) throw new Error(`REDIS_CELLS has no cell ${cell}`);
    return connections.topics;
  }

  #settle(): void {
    if (this.#stopped || this.#isSettling) return;
    this.#isSettling = true;
    void this.#settleAll();
  }

  async #settleAll(): Promise<void> {
    clearTimeout(this.#retry);
    for (;;) {
      const version = this.#map?.version ?? 0;
      this.#isIncomplete = false;
      let isDone = true;
      let isWhole = true;
      let missed = false;
      for (const slot of this.#topics.keys()) {
        const outcome = await this.#settleSlot(slot);
        // A cell that is away holds up the moves of its own slots only.
        if (outcome === "failed" && this.#isMoving(slot)) isDone = false;
        if (outcome === "failed") isWhole = false;
        if (outcome === "late") missed = true;
      }
      if (missed) for (const listener of this.#listeners) listener.onRestored();
      if (this.#map && this.#map.version !== version) continue;
      if (isDone) this.#settledVersion = version;
      if (this.#isIncomplete) continue;
      if (!isWhole && !this.#stopped) this.#retry = setTimeout(() => this.#settle(), retryMs);
      this.#isSettling = false;
      return;
    }
  }

  /** `late`: the new owner was subscribed only now, messages may have been missed. */
  async #settleSlot(slot: number): Promise<"done" | "late" | "failed"> {
    const topics = [...(this.#topics.get(slot) ?? [])];
    const places = this.#placesOf(slot);
    const at = this.#subscribedAt.get(slot) ?? new Set();
    this.#subscribedAt.set(slot, at);
    let late = false;
    for (const cell of places) {
      if (at.has(cell)) continue;
      try {
        await this.#at(cell).subscribeAll(topics);
      } catch (error) {
        this.#logger.debug({ err: error, slot, cell }, "topics could not be subscribed at a cell yet");
        return "failed";
      }
      at.add(cell);
      const left = topics.filter((topic) => this.#topics.get(slot)?.has(topic) !== true);
      await Promise.all(left.map(async (topic) => this.#at(cell).unsubscribe(topic))).catch(() => undefined);
      if (cell === this.#map?.owners[slot]) late = true;
    }
    for (const cell of [...at]) {
      if (places.includes(cell)) continue;
      at.delete(cell);
      // A connection that broke has lost them already.
      const left = topics.map(async (topic) => this.#at(cell).unsubscribe(topic));
      await Promise.all(left).catch(() => undefined);
    }
    return late ? "late" : "done";
  }
}
