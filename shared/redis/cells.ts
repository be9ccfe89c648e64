import type { Logger } from "../runtime/logging.ts";
import type { Service } from "../runtime/lifecycle.ts";
import type { StoreState } from "../runtime/store-state.ts";
import { type CellMap, newCellMap } from "./cell-map.ts";
import { bytesOf } from "./client.ts";
import type { RedisConnections } from "./connections.ts";
import { fencedCall, fenceKey, raiseFenceScript, slotFenceKey } from "./fence.ts";
import { type SlotCall, SlotGates, type SlotReplies } from "./slot-gates.ts";
import { SlotTopics } from "./slot-topics.ts";
import { everyPinSlot, everySlot, slotOf } from "./slots.ts";
import type { TopicListener } from "./subscriptions.ts";
import { onlyCell } from "./target.ts";
import { brokerUnavailable } from "./unavailable.ts";

/** Pause between two reads of the map while calls wait. */
const recoverMs = 250;

/** Where the calls of a slot go. */
export type SlotAccess = Pick<RedisConnections, "root" | "replica" | "run">;
/** The cell that has the slots of a call. */
export type CellAccess = SlotAccess & Pick<RedisConnections, "spansSlots">;

/**
 * Routes what belongs to a channel, a user or a slot to the cell, an independent Redis, that owns the slot. The stores reach Redis
 * only through it. All cells use the same names for the same keys.
 *
 * With one cell it costs nothing. With several, calls follow the map of cells: a cell refuses a call of a process whose map is older
 * than its fence; the call is then repeated where the new map says, in its place among the calls of its slot.
 */
export class Cells implements Service {
  readonly #cells: ReadonlyMap<string, RedisConnections>;
  readonly #first: RedisConnections;
  /** Undefined with one cell. */
  readonly #routing: Routing | undefined;
  #mapOfOne: CellMap | undefined;

  /**
   * The caller starts and stops the connections.
   * @param cells by name; the first one is also the fleet's.
   */
  constructor(cells: RedisConnections | ReadonlyMap<string, RedisConnections>, logger?: Logger) {
    this.#cells = cells instanceof Map ? cells : new Map([[onlyCell, cells as RedisConnections]]);
    const [first] = this.#cells.values();
    if (!first) throw new Error("there is no cell");
    this.#first = first;
    this.#routing = this.#cells.size > 1 && logger ? new Routing(this.#cells, logger) : undefined;
  }

  async start(): Promise<void> {}

  async stop(): Promise<void> {
    this.#routing?.stop();
  }

  /** @param name of a channel, or the key of a user: what the slot is computed from. */
  of(name: string): SlotAccess {
    return this.#routing ? this.#routing.ofSlot(slotOf(name)) : this.#first;
  }

  ofSlot(slot: number): SlotAccess {
    return this.#routing ? this.#routing.ofSlot(slot) : this.#first;
  }

  /**
   * Calls `ask` for groups of slots that one script call may span: once for each cell, in a Redis Cluster once for each slot. Each
   * group succeeds or fails by itself. A call of `ask` MUST send one command, at once: a cell may refuse it, and its slots are asked
   * for again.
   * @param bytes of the arguments of all groups
   */
  groups<Reply>(slots: readonly number[], ask: SlotCall<CellAccess, Reply>, bytes = 0): SlotReplies<Reply>[] {
    if (slots.length === 0) return [];
    if (this.#routing) return this.#routing.gates.submit(slots, bytes, ask);
    const groups = this.#first.spansSlots ? [slots] : slots.map((slot) => [slot]);
    return groups.map((group) => ({ slots: group, replies: ask(this.#first, group).then((reply) => [reply]) }));
  }

  /** The replies of all {@link groups}, in no order. */
  async ofSlots<Reply>(slots: readonly number[], ask: SlotCall<CellAccess, Reply>, bytes = 0): Promise<Reply[]> {
    const groups = this.groups(slots, ask, bytes);
    return (await Promise.all(groups.map(async ({ replies }) => replies))).flat();
  }

  /** As {@link ofSlots} for one slot: where the keys of a call depend on the cell. */
  async atSlot<Reply>(slot: number, ask: (cell: CellAccess) => Promise<Reply>): Promise<Reply> {
    const [reply] = await this.ofSlots([slot], ask);
    return reply as Reply;
  }

  /** Holds what belongs to no slot: nodes, leases, documents, the map of cells. */
  get fleet(): RedisConnections {
    return this.#first;
  }

  get all(): ReadonlyMap<string, RedisConnections> {
    return this.#cells;
  }

  /** One script call may use keys of any slots. */
  get spansAllSlots(): boolean {
    return !this.#routing && this.#first.spansSlots;
  }

  /** Some cell needs a call for each slot. */
  get hasCluster(): boolean {
    return [...this.#cells.values()].some(({ spansSlots }) => !spansSlots);
  }

  get isRouted(): boolean {
    return this.#routing !== undefined;
  }

  /** The state of the fleet's cell. Another cell concerns its own slots only. */
  get state(): StoreState {
    return this.#first.state;
  }

  /** The map in force; with one cell the one that gives it all slots. */
  get map(): CellMap {
    if (this.#routing) return this.#routing.map;
    const [name = onlyCell] = this.#cells.keys();
    // Made once: every call to a service looks up the cell of its user.
    this.#mapOfOne ??= { version: 0, ...newCellMap(name) };
    return this.#mapOfOne;
  }

  /** Slots that hold queues: the hash slots, and those of pinned tenants. */
  get queueSlots(): readonly number[] {
    return this.#routing ? [...this.#routing.map.owners.keys()] : everySlot;
  }

  use(map: CellMap): void {
    this.#routing?.use(map);
  }

  /** The newest map for which this process follows every topic where it says. */
  get followedVersion(): number {
    return this.#routing?.topics.version ?? 0;
  }

  /** From now on the cell refuses calls of processes that know an older map. */
  async raiseFence(name: string, version: number): Promise<void> {
    const cell = this.#cells.get(name);
    if (!cell) throw brokerUnavailable(`REDIS_CELLS has no cell ${name}`);
    await raiseFences(cell, version);
  }

  /** @param refresh reads the map and passes it to {@link use}. */
  refreshWith(refresh: () => Promise<void>): void {
    if (this.#routing) this.#routing.refresh = refresh;
  }

  /** Listens to the topics of all cells. */
  listen(listener: TopicListener): void {
    for (const cell of this.#cells.values()) cell.topics.listen(listener);
    this.#routing?.topics.listen(listener);
  }

  /** Resolves once this process receives everything published from now on. */
  async subscribe(slot: number, topic: string): Promise<void> {
    await (this.#routing ? this.#routing.topics.subscribe(slot, topic) : this.#first.topics.subscribe(topic));
  }

  /** As {@link subscribe}. If that fails, subscribes as soon as the server can be reached, and calls listeners (`onRestored`). */
  async follow(slot: number, topic: string): Promise<void> {
    await (this.#routing ? this.#routing.topics.follow(slot, topic) : this.#first.topics.follow(topic));
  }

  async unsubscribe(slot: number, topic: string): Promise<void> {
    await (this.#routing ? this.#routing.topics.unsubscribe(slot, topic) : this.#first.topics.unsubscribe(topic));
  }
}

/** What several cells need. */
class Routing {
  readonly gates: SlotGates<CellAccess>;
  readonly topics: SlotTopics;
  refresh: () => Promise<void> = async () => undefined;
  map: CellMap;
  readonly #cells: ReadonlyMap<string, RedisConnections>;
  readonly #logger: Logger;
  readonly #bySlot = new Map<number, SlotAccess>();
  /** Of the map in force. */
  #accesses = new Map<string, CellAccess>();
  #recovering = false;
  #stopped = false;

  constructor(cells: ReadonlyMap<string, RedisConnections>, logger: Logger) {
    this.#cells = cells;
    this.#logger = logger;
    for (const cell of cells.values()) cell.enableFence();
    this.topics = new SlotTopics(cells, logger);
    this.map = { version: 0, ...newCellMap([...cells.keys()][0] ?? "") };
    this.gates = new SlotGates<CellAccess>({
      accessOf: (cell, version) => this.#accessOf(cell, version),
      spansSlots: (cell) => cells.get(cell)?.spansSlots ?? true,
      onWaiting: () => void this.#recover(),
    });
  }

  use(map: CellMap): void {
    if (map.version <= this.map.version) return;
    this.map = map;
    this.#accesses = new Map();
    this.gates.use(map);
    this.topics.use(map);
  }

  stop(): void {
    this.#stopped = true;
    this.gates.stop();
    this.topics.stop();
  }

  /** Looks the cell up for each call. */
  ofSlot(slot: number): SlotAccess {
    let access = this.#bySlot.get(slot);
    if (!access) {
      const [first] = this.#cells.values();
      access = {
        root: first?.root ?? "",
        replica: undefined,
        run: async (command, ...keysAndArguments) => {
          const bytes = bytesOf(keysAndArguments);
          const call = async (cell: CellAccess) => cell.run(command, ...keysAndArguments);
          const [group] = this.gates.submit([slot], bytes, call);
          const [reply] = (await group?.replies) ?? [];
          return reply as never;
        },
      };
      this.#bySlot.set(slot, access);
    }
    return access;
  }

  #accessOf(cell: string, version: number): CellAccess {
    const known = this.#accesses.get(cell);
    if (known) return known;
    const connections = this.#cells.get(cell);
    if (!connections) throw brokerUnavailable(`REDIS_CELLS has no cell ${cell}, which owns the slot`);
    const { root, spansSlots } = connections;
    const access: CellAccess = {
      root,
      spansSlots,
      replica: undefined,
      run: async (command, ...given) => {
        const key = spansSlots ? fenceKey(root) : slotFenceKey(String(given[0]));
        const { script, keysAndArguments, toReply } = fencedCall({ key, version }, command, given);
        return toReply(await connections.run(script, ...keysAndArguments));
      },
    };
    this.#accesses.set(cell, access);
    return access;
  }

  /** While calls wait: reads the map, and gives a fence to cells that lack one. */
  async #recover(): Promise<void> {
    if (this.#recovering) return;
    this.#recovering = true;
    while (this.gates.waiting > 0 && !this.#stopped) {
      try {
        await this.refresh();
        for (const cell of this.gates.unfenced) await this.#giveFence(cell);
      } catch (error) {
        this.#logger.debug({ err: error }, "the map of cells could not be refreshed");
      }
      if (this.gates.waiting > 0) await new Promise((resolve) => setTimeout(resolve, recoverMs));
    }
    this.#recovering = false;
  }

  async #giveFence(name: string): Promise<void> {
    const cell = this.#cells.get(name);
    if (!cell || this.map.version === 0) return;
    await raiseFences(cell, this.map.version);
    this.gates.fenced(name);
  }
}

async function raiseFences(cell: RedisConnections, version: number): Promise<void> {
  const slots = cell.spansSlots ? [] : [...everySlot, ...everyPinSlot];
  const keys = cell.spansSlots ? [fenceKey(cell.root)] : slots.map((slot) => slotFenceKey(`${cell.root}:{${slot}}`));
  await Promise.all(keys.map(async (key) => cell.run(raiseFenceScript, key, version)));
}
