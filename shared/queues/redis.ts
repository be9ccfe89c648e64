import type { Cells } from "../redis/cells.ts";
import { SlotGroups, type UnreachedSlots } from "../redis/slot-groups.ts";
import { everyPinSlot, everySlot, slotOf } from "../redis/slots.ts";
import type { StoreState } from "../runtime/store-state.ts";
import {
  type Claimed,
  type ClaimReply,
  type ClaimRequest,
  type DeadLetterPage,
  type Enqueued,
  type IdentifiedItem,
  type Histories,
  type History,
  type Lease,
  leaseMs,
  maxLanesListed,
  type NewItem,
  type QueuedItem,
  type QueueListener,
  type QueueName,
  type QueueOperations,
  type QueueOverview,
  type QueueStore,
  type ReadyList,
  type Settlement,
} from "./contract.ts";
import {
  heldPattern,
  idKey,
  type ItemContent,
  isReadyTopic,
  laneText,
  parseContent,
  parseItem,
  parseLane,
  parseLease,
  parseNews,
  parseQueue,
  queueText,
  readyTopic,
  scriptKeys,
  slotPrefix,
  tenantText,
} from "./keys.ts";
import { ClaimedIds } from "./claimed-ids.ts";
import { DeadLetters } from "./dead-letters.ts";
import { Enqueues } from "./enqueues.ts";
import { Overview } from "./overview.ts";
import { SlotBatches } from "./slot-batches.ts";
import { queueScript, runAt } from "./slot-scripts.ts";
import { SourceCounts } from "./source-counts.ts";
import { placesOf } from "./tenant-places.ts";

/** Of each slot, in one script call. */
const maxPromoted = 100;
const scanCount = 1_000;
/** Slots that one script call lists: 16,000 lanes at most, about 10 ms of Redis. */
const slotsListedAtOnce = 16;

const claimScript = queueScript<string[]>("claim.lua", { isBatch: true });
const ackScript = queueScript<string>("ack.lua", { isBatch: true });
const retryScript = queueScript<0 | 1>("retry.lua");
const extendScript = queueScript<(0 | 1)[]>("extend.lua");
const promoteScript = queueScript<number>("promote.lua");
const historiesScript = queueScript<string>("histories.lua");
const readyScript = queueScript<string[][]>("ready.lua");
const waitingScript = queueScript<number[]>("waiting.lua");
const firstWaitingScript = queueScript<string[]>("first-waiting.lua");
const heldScript = queueScript<number[]>("held.lua");
const releaseScript = queueScript<0 | 1>("release.lua");

/** Queues on Redis 7: standalone, Sentinel or Cluster. */
export class RedisQueueStore implements QueueStore, QueueOperations {
  readonly #cells: Cells;
  readonly #listeners: QueueListener[] = [];
  readonly #enqueues: Enqueues;
  /** Undefined: one script reaches every slot. */
  readonly #claimedIds: ClaimedIds | undefined;
  readonly #acks: SlotBatches;
  readonly #sources = new SourceCounts(async (sources) => this.#count("sources", sources));
  readonly #leaseMs: number;
  readonly #groups: SlotGroups;
  readonly #overview: Overview;
  readonly #deadLetters: DeadLetters;

  /**
   * @param options.leaseMs shorter than the default in tests
   * @param options.claimWaitMs for the claim of an id that counts in all queues; longer than the default in tests
   */
  constructor(cells: Cells, options: { leaseMs?: number; claimWaitMs?: number } = {}) {
    this.#leaseMs = options.leaseMs ?? leaseMs;
    this.#cells = cells;
    this.#groups = new SlotGroups(cells, { keys: scriptKeys, prefix: slotPrefix });
    this.#overview = new Overview(cells, this.#groups);
    this.#enqueues = new Enqueues(cells, this.#leaseMs);
    if (!cells.spansAllSlots) {
      this.#claimedIds = new ClaimedIds(cells, {
        enqueue: async (item, after) => this.#enqueues.add(item, after),
        wasStored: async (queue, dedupeId) => this.#wasStoredIn(queue, dedupeId),
        waitMs: options.claimWaitMs,
      });
    }
    this.#deadLetters = new DeadLetters(cells, async (item) => this.enqueue(item));
    this.#acks = new SlotBatches({
      script: ackScript,
      head: () => [],
      separator: "",
      cells,
      inOrder: false,
    });
  }

  get state(): StoreState {
    return this.#cells.state;
  }

  async start(): Promise<void> {}

  async stop(): Promise<void> {
    this.#listeners.length = 0;
  }

  enqueue(item: NewItem, after?: readonly History[]): Promise<Enqueued> {
    return (this.#claimedIds ?? this.#enqueues).add(item, after);
  }

  async histories(): Promise<Histories> {
    const { results, unreached } = await this.#groups.ask(this.#cells.queueSlots, async (cell, [slot = 0]) =>
      cell.run(historiesScript, ...scriptKeys(cell, slot)),
    );
    return { names: [...new Set(results)], isWhole: unreached.length === 0 };
  }

  async wasStored({ queue, dedupeId, dedupesEverywhere = false }: IdentifiedItem): Promise<boolean> {
    if (dedupeId === undefined) return false;
    if (!dedupesEverywhere) return this.#wasStoredIn(queue, dedupeId);
    return this.#claimedIds?.wasStored(dedupeId) ?? this.#hasId(slotOf(dedupeId), dedupeId);
  }

  claim(requests: readonly ClaimRequest[]): readonly Promise<ClaimReply>[] {
    const mostQueues = requests.reduce((sum, { maxQueues }) => sum + maxQueues, 0);
    return this.#groups.each(claimScript, requests, {
      common: [this.#leaseMs, mostQueues],
      of: (request) => [laneText(request), request.maxQueues, 2 * request.maxItems],
      replies: toClaimReplies,
    });
  }

  settle(lease: Lease, settlement: Settlement): Promise<boolean> {
    const { slot, text } = lease;
    if (settlement.kind !== "done") return this.#settleOther(lease, settlement);
    return this.#acks.add(slot, () => `${settlement.done} ${text}`, text.length).then(wasHeld);
  }

  async #settleOther(lease: Lease, settlement: Exclude<Settlement, { kind: "done" }>): Promise<boolean> {
    const { kind, done } = settlement;
    const outcome = kind === "retry" ? "delay" : kind;
    const attempts = kind === "retry" ? settlement.attempts : 0;
    const delayMs = kind === "retry" ? settlement.delayMs : 0;
    const failure = kind === "dead" ? settlement.failure : "";
    const values = [lease.text, done, outcome, attempts, delayMs, failure];
    return (await runAt(this.#cells, retryScript, lease.slot, ...values)) === 1;
  }

  extend(leases: readonly Lease[]): readonly Promise<boolean>[] {
    return this.#groups.each(extendScript, leases, {
      common: [this.#leaseMs],
      of: ({ text }) => [text],
      replies: (answers) => answers.map((held) => held === 1),
    });
  }

  async promote(
    slots: readonly number[] = this.#cells.queueSlots,
  ): Promise<{ nextMs: number | undefined; unreached: readonly UnreachedSlots[] }> {
    const { results, unreached } = await this.#groups.ask(slots, async (cell, group) => {
      const prefixes = group.map((slot) => slotPrefix(cell.root, slot));
      return cell.run(promoteScript, ...scriptKeys(cell, group[0] ?? 0), maxPromoted, ...prefixes);
    });
    const next = results.filter((waitMs) => waitMs >= 0);
    return { nextMs: next.length === 0 ? undefined : Math.min(...next), unreached };
  }

  async ready(slots: readonly number[] = this.#cells.queueSlots): Promise<ReadyList> {
    const { results, unreached } = await this.#groups.askInChunks(slots, slotsListedAtOnce, async (cell, group) => {
      const prefixes = group.map((slot) => slotPrefix(cell.root, slot));
      const lanes = await cell.run(readyScript, ...scriptKeys(cell, group[0] ?? 0), maxLanesListed, ...prefixes);
      return lanes.map((texts, index) => texts.map((text) => parseLane(group[index] ?? 0, text)));
    });
    const bySlot = results.flat();
    const complete = bySlot.every(({ length }) => length < maxLanesListed);
    return { lanes: bySlot.flat(), complete, unreached };
  }

  async waiting(tenant: string, classes: readonly string[]): Promise<number> {
    const fields = classes.map((name) => `${name}:${tenantText(tenant)}`);
    const counts = await this.#count("depths", fields);
    return counts.reduce((sum, items) => sum + items, 0);
  }

  async waitingOfSource(source: string, slots: "reachable" | "every" = "reachable"): Promise<number> {
    if (slots === "reachable") return this.#sources.of(source);
    const [items = 0] = await this.#count("sources", [source], slots);
    return items;
  }

  async firstWaiting({
    class: name,
    service,
    tenant,
    source,
  }: Parameters<QueueStore["firstWaiting"]>[0]): Promise<readonly string[]> {
    const { results } = await this.#groups.ask(this.#cells.queueSlots, async (cell, slots) => {
      const prefixes = slots.map((slot) => slotPrefix(cell.root, slot));
      const values = [name, service, tenantText(tenant), source, ...prefixes];
      return cell.run(firstWaitingScript, ...scriptKeys(cell, slots[0] ?? 0), ...values);
    });
    return results.flat().map((content) => parseContent(content).data);
  }

  /** Follows the news of all slots. */
  listen(listener: QueueListener): void {
    this.#listeners.push(listener);
    if (this.#listeners.length > 1) return;
    const { root } = this.#cells.fleet;
    this.#cells.listen({
      onMessage: (topic, message) => {
        if (!isReadyTopic(root, topic)) return;
        for (const ready of parseNews(message)) for (const each of this.#listeners) each.onReady(ready);
      },
      onRestored: () => {
        for (const each of this.#listeners) each.onRestored();
      },
    });
    for (const slot of this.#cells.isRouted ? [...everySlot, ...everyPinSlot] : everySlot) {
      void this.#cells.follow(slot, readyTopic(root, slot));
    }
  }

  depths(): Promise<QueueOverview> {
    return this.#overview.read();
  }

  deadLetters(query: { limit: number; after?: string }): Promise<DeadLetterPage> {
    return this.#deadLetters.page(query);
  }

  retryDeadLetter(id: string): Promise<boolean> {
    return this.#deadLetters.retry(id);
  }

  removeDeadLetter(id: string): Promise<boolean> {
    return this.#deadLetters.remove(id);
  }

  async release(queue: QueueName): Promise<boolean> {
    const { slots } = placesOf(this.#cells.map, queue);
    const released = slots.map(async (slot) => runAt(this.#cells, releaseScript, slot, queueText(queue)));
    return (await Promise.all(released)).includes(1);
  }

  async heldQueues(key: string): Promise<readonly QueueName[]> {
    const { results, unreached } = await this.#groups.askInChunks(
      this.#cells.queueSlots,
      slotsListedAtOnce,
      async (cell, slots) => {
        const prefixes = slots.map((slot) => slotPrefix(cell.root, slot));
        const held = await cell.run(heldScript, ...scriptKeys(cell, slots[0] ?? 0), ...prefixes);
        return held.map((at) => slots[at] ?? 0);
      },
    );
    const [missing] = unreached;
    if (missing) throw missing.error;
    const matching = ["MATCH", heldPattern(key), "COUNT", scanCount];
    const held = await Promise.all(
      results.flat().map(async (slot) => {
        const cell = this.#cells.ofSlot(slot);
        const prefix = slotPrefix(cell.root, slot);
        const [parked, delayed] = await Promise.all([
          scanned(async (cursor) => cell.run<Scan>("sscan", `${prefix}parked`, cursor, ...matching)),
          scanned(async (cursor) => cell.run<Scan>("zscan", `${prefix}delays`, cursor, ...matching)),
        ]);
        // ZSCAN gives the score after each member.
        return new Set([...parked, ...delayed.filter((_, at) => at % 2 === 0)]);
      }),
    );
    const queues = held
      .flatMap((members) => [...members])
      .map((member) => parseQueue(member.slice(member.indexOf(" ") + 1)));
    return queues.filter((queue) => queue.key === key);
  }

  async #wasStoredIn(queue: QueueName, dedupeId: string): Promise<boolean> {
    const { slots } = placesOf(this.#cells.map, queue);
    return (await Promise.all(slots.map(async (slot) => this.#hasId(slot, dedupeId)))).includes(true);
  }

  async #hasId(slot: number, dedupeId: string): Promise<boolean> {
    const cell = this.#cells.ofSlot(slot);
    return (await cell.run<number>("exists", idKey(cell.root, slot, dedupeId))) === 1;
  }

  /** @returns the items of each field. */
  async #count(
    name: "depths" | "sources",
    fields: readonly string[],
    slots: "reachable" | "every" = "reachable",
  ): Promise<readonly number[]> {
    const { results, unreached } = await this.#groups.ask(this.#cells.queueSlots, async (cell, group) => {
      const prefixes = group.map((slot) => slotPrefix(cell.root, slot));
      return cell.run(waitingScript, ...scriptKeys(cell, group[0] ?? 0), name, fields.length, ...fields, ...prefixes);
    });
    const [missing] = unreached;
    if (missing && (slots === "every" || results.length === 0)) throw missing.error;
    return fields.map((_, at) => results.reduce((sum, counts) => sum + (counts[at] ?? 0), 0));
  }
}

/** See ack.lua. */
function wasHeld(reply: string | undefined): boolean {
  return reply === "1";
}

const noContent: ItemContent = { head: "", data: "" };

/** See claim.lua. */
function toClaimReplies([text = "", ...texts]: readonly string[], requests: readonly ClaimRequest[]): ClaimReply[] {
  const [counts = "", ...lines] = text.split("\n");
  const numbers = counts.split(" ");
  const indexesAt = 2 * requests.length + 1;
  const claimedAt = Number(numbers[indexesAt - 1]);
  const contents = texts.map(parseContent);
  const areShared = numbers.length > indexesAt;
  let lineAt = 0;
  let itemAt = 0;
  const nextContent = (): ItemContent => {
    const at = itemAt++;
    return contents[areShared ? Number(numbers[indexesAt + at]) - 1 : at] ?? noContent;
  };
  return requests.map((request, index) => {
    const claimed: Claimed[] = [];
    for (let left = Number(numbers[index * 2 + 1]); left > 0; left--) {
      const { lease, attempts, previous, first } = parseLease(request, lines[lineAt++] ?? "", nextContent());
      const items: [QueuedItem, ...QueuedItem[]] = [first];
      while (items.length < lease.items) items.push(parseItem(lines[lineAt++] ?? "", nextContent()));
      claimed.push({ lease, attempts, previous, claimedAt, items });
    }
    return { more: numbers[index * 2] === "1", claimed };
  });
}

type Scan = [cursor: string, found: string[]];

/** All members, read in steps: the server looks at about {@link scanCount} members at once. */
async function scanned(step: (cursor: string) => Promise<Scan>): Promise<string[]> {
  const all: string[] = [];
  let cursor = "0";
  do {
    const [next, found] = await step(cursor);
    all.push(...found);
    cursor = next;
  } while (cursor !== "0");
  return all;
}
