import type { CellAccess, Cells } from "../redis/cells.ts";
import { type Script, script } from "../redis/scripts.ts";
import { SlotGroups, type UnreachedSlots } from "../redis/slot-groups.ts";
import { slotCount } from "../redis/slots.ts";
import type { StoreState } from "../runtime/store-state.ts";
import {
  type Claimed,
  type ClaimReply,
  type ClaimRequest,
  type DeadLetter,
  dedupeMs,
  type Enqueued,
  type Lease,
  leaseMs,
  maxLanesListed,
  type NewItem,
  type QueueDepth,
  type QueuedItem,
  type QueueListener,
  type QueueName,
  type QueueOperations,
  type QueueStore,
  type ReadyList,
  type Settlement,
} from "./contract.ts";
import {
  comparePlaces,
  deadLetterId,
  type DeadLetterPlace,
  oldestPlaces,
  parseDeadLetterId,
} from "./dead-letter-places.ts";
import {
  isReadyTopic,
  laneText,
  paddedNumber,
  parseDeadLetter,
  parseItem,
  parseLane,
  parseLease,
  parseNews,
  parseQueue,
  queueText,
  readyTopic,
  scriptKeys,
  slotOfQueue,
  slotPrefix,
  tenantText,
  unescaped,
} from "./keys.ts";
import { SlotBatches } from "./slot-batches.ts";

type ClaimedReply = [lease: string, ...items: string[]];
type GroupReply = [more: 0 | 1, ...claimed: ClaimedReply[]];

/** Of each slot, in one script call. */
const maxPromoted = 100;
/** Lanes, leases, delays and parked queues of each slot. */
const maxLookedAt = 50;
/** Dead letters of a slot with one time: each takes a script call. */
const maxDeadPerMs = 1_000;
const everySlot = Array.from({ length: slotCount }, (_, slot) => slot);
/** Slots whose lanes one script call lists: 16,000 lanes at most, about 10 ms of Redis. */
const slotsListedAtOnce = 16;

const enqueueScript = queueScript<string[]>("enqueue.lua");
const claimScript = queueScript<GroupReply[]>("claim.lua");
const ackScript = queueScript<(0 | 1)[]>("ack.lua");
const retryScript = queueScript<0 | 1>("retry.lua");
const extendScript = queueScript<(0 | 1)[]>("extend.lua");
const promoteScript = queueScript<number>("promote.lua");
const readyScript = queueScript<string[][]>("ready.lua");
const waitingScript = queueScript<number>("waiting.lua");
const overviewScript =
  queueScript<[now: string, dead: number, ...entries: [text: string, queues: number, oldestAt: string][]]>(
    "overview.lua",
  );
const releaseScript = queueScript<0 | 1>("release.lua");
const retryDeadScript = queueScript<0 | 1>("retry-dead.lua");
const removeDeadScript = queueScript<0 | 1>("remove-dead.lua");

/** Its keys are {@link scriptKeys}: they say which server runs it, and whether it may. */
function queueScript<Reply>(file: string): Script<Reply> {
  return script<Reply>(new URL(file, import.meta.url), 2);
}

/** Queues on Redis 7: standalone, Sentinel or Cluster. */
export class RedisQueueStore implements QueueStore, QueueOperations {
  readonly #cells: Cells;
  readonly #listeners: QueueListener[] = [];
  readonly #enqueues: SlotBatches<string>;
  readonly #acks: SlotBatches<0 | 1>;
  readonly #leaseMs: number;
  readonly #groups: SlotGroups;

  /** @param options.leaseMs shorter than the default in tests */
  constructor(cells: Cells, options: { leaseMs?: number } = {}) {
    this.#leaseMs = options.leaseMs ?? leaseMs;
    this.#cells = cells;
    this.#groups = new SlotGroups(cells, { keys: scriptKeys, prefix: slotPrefix });
    this.#enqueues = new SlotBatches({
      script: enqueueScript,
      arguments: (groups) => [
        dedupeMs,
        groups.reduce((sum, { entries }) => sum + entries.length, 0),
        ...groups.flatMap(({ prefix, entries }) => [prefix, entries.length, ...entries.flat()]),
      ],
      cells,
    });
    this.#acks = new SlotBatches({
      script: ackScript,
      arguments: (groups) => groups.flatMap(({ prefix, entries }) => [prefix, entries.length, ...entries.flat()]),
      cells,
    });
  }

  get state(): StoreState {
    return this.#cells.state;
  }

  async start(): Promise<void> {}

  async stop(): Promise<void> {
    this.#listeners.length = 0;
  }

  async enqueue({ queue, class: name, source, dedupeId = "", head, data }: NewItem): Promise<Enqueued> {
    const origin = source === undefined ? name : `${name} ${source}`;
    const values = [queueText(queue), origin, dedupeId, `${origin}\n${head}\n${data}`];
    const sequence = await this.#enqueues.add(slotOfQueue(queue), values);
    return sequence === "" ? { kind: "duplicate" } : { kind: "stored", sequence: paddedNumber(sequence) };
  }

  async wasStored({ queue, dedupeId }: Pick<NewItem, "queue" | "dedupeId">): Promise<boolean> {
    if (dedupeId === undefined) return false;
    const slot = slotOfQueue(queue);
    const cell = this.#cells.ofSlot(slot);
    return (await cell.run<number>("exists", `${slotPrefix(cell.root, slot)}id:${dedupeId}`)) === 1;
  }

  claim(requests: readonly ClaimRequest[]): readonly Promise<ClaimReply>[] {
    const mostQueues = requests.reduce((sum, { maxQueues }) => sum + maxQueues, 0);
    const replies = this.#groups.each(claimScript, requests, {
      common: [this.#leaseMs, mostQueues],
      of: (request) => [laneText(request), request.maxQueues, request.maxItems - 1],
    });
    return replies.map(async (reply, index) => toClaimReply(await reply, requests[index]));
  }

  async settle(lease: Lease, settlement: Settlement, previous: string): Promise<boolean> {
    const last = previous === "" ? "" : String(Number(previous));
    if (settlement.kind === "done") {
      return (await this.#acks.add(lease.slot, [lease.text, settlement.done, last])) === 1;
    }
    const cell = this.#cells.ofSlot(lease.slot);
    const prefix = slotPrefix(cell.root, lease.slot);
    const { kind, done } = settlement;
    const outcome = kind === "retry" ? "delay" : kind;
    const attempts = kind === "retry" ? settlement.attempts : 0;
    const delayMs = kind === "retry" ? settlement.delayMs : 0;
    const failure = kind === "dead" ? settlement.failure : "";
    const values = [prefix, lease.text, done, last, outcome, attempts, delayMs, failure];
    return (await cell.run(retryScript, ...scriptKeys(cell, lease.slot), ...values)) === 1;
  }

  extend(leases: readonly Lease[]): readonly Promise<boolean>[] {
    const replies = this.#groups.each(extendScript, leases, { common: [this.#leaseMs], of: ({ text }) => [text] });
    return replies.map(async (reply) => (await reply) === 1);
  }

  async promote(
    slots: readonly number[] = everySlot,
  ): Promise<{ nextMs: number | undefined; unreached: readonly UnreachedSlots[] }> {
    const { results, unreached } = await this.#groups.ask(slots, async (cell, group) => {
      const prefixes = group.map((slot) => slotPrefix(cell.root, slot));
      return cell.run(promoteScript, ...scriptKeys(cell, group[0] ?? 0), maxPromoted, ...prefixes);
    });
    const next = results.filter((waitMs) => waitMs >= 0);
    return { nextMs: next.length === 0 ? undefined : Math.min(...next), unreached };
  }

  async ready(slots: readonly number[] = everySlot): Promise<ReadyList> {
    const listed = await Promise.all(
      inChunks(slots, slotsListedAtOnce).map(async (chunk) =>
        this.#groups.ask(chunk, async (cell, group) => {
          const prefixes = group.map((slot) => slotPrefix(cell.root, slot));
          const lanes = await cell.run(readyScript, ...scriptKeys(cell, group[0] ?? 0), maxLanesListed, ...prefixes);
          return lanes.map((texts, index) => texts.map((text) => parseLane(group[index] ?? 0, text)));
        }),
      ),
    );
    const bySlot = listed.flatMap(({ results }) => results.flat());
    return {
      lanes: bySlot.flat(),
      complete: bySlot.every(({ length }) => length < maxLanesListed),
      unreached: listed.flatMap(({ unreached }) => unreached),
    };
  }

  async waiting(tenant: string, classes: readonly string[]): Promise<number> {
    return this.#count(
      "depths",
      classes.map((name) => `${name}:${tenantText(tenant)}`),
    );
  }

  async waitingOfSource(source: string): Promise<number> {
    return this.#count("sources", [source]);
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
    for (const slot of everySlot) {
      // Where Redis is away the topic is subscribed once it is back, and the listeners hear of it (onRestored).
      this.#cells.subscribe(slot, readyTopic(root, slot)).catch(() => undefined);
    }
  }

  async depths(): Promise<{ depths: readonly QueueDepth[]; deadLetters: number }> {
    const found = new Map<string, { waiting: number; inFlight: number; queues: number; oldestMs: number }>();
    const at = (text: string): { waiting: number; inFlight: number; queues: number; oldestMs: number } => {
      const known = found.get(text) ?? { waiting: 0, inFlight: 0, queues: 0, oldestMs: 0 };
      found.set(text, known);
      return known;
    };
    await this.#ofEverySlot(async (cell, slot) => {
      const prefix = slotPrefix(cell.root, slot);
      const [counts, leases] = await Promise.all([
        cell.run<Record<string, string>>("hgetall", `${prefix}depths`),
        cell.run<string[]>("zrange", `${prefix}leases`, "0", "-1"),
      ]);
      for (const [text, items] of Object.entries(counts)) at(text).waiting += Number(items);
      for (const lease of leases) {
        const [, name = "", items = "0", tenant = ""] = /^\d+ (\S+) (\d+) [^:]*:([^:]*):/.exec(lease) ?? [];
        const depth = at(`${name}:${tenant}`);
        depth.waiting -= Number(items);
        depth.inFlight += Number(items);
      }
    });
    let deadLetters = 0;
    const { results, unreached } = await this.#groups.ask(everySlot, async (cell, slots) => {
      const prefixes = slots.map((slot) => slotPrefix(cell.root, slot));
      return cell.run(overviewScript, ...scriptKeys(cell, slots[0] ?? 0), maxLookedAt, ...prefixes);
    });
    const [missing] = unreached;
    if (missing) throw missing.error;
    for (const [now, dead, ...entries] of results) {
      deadLetters += dead;
      for (const [text, queues, oldestAt] of entries) {
        const depth = at(text);
        depth.queues += queues;
        if (oldestAt !== "0") depth.oldestMs = Math.max(depth.oldestMs, Number(now) - Number(oldestAt));
      }
    }
    const depths = [...found].map(([text, { waiting, ...others }]) => {
      const [name = "", tenant = ""] = text.split(":");
      return { class: name, tenant: unescaped(tenant), waiting: Math.max(0, waiting), ...others };
    });
    return { depths, deadLetters };
  }

  async deadLetters({ limit, after }: { limit: number; after?: string }): Promise<readonly DeadLetter[]> {
    const last = after === undefined ? undefined : parseDeadLetterId(after);
    const places = await oldestPlaces(async (slot, count) => this.#deadPlaces(slot, { count, after: last }), limit);
    const bySlot = Map.groupBy(places, ({ slot }) => slot);
    const letters = [...bySlot].map(async ([slot, own]) => {
      const cell = this.#cells.ofSlot(slot);
      const sequences = own.map(({ sequence }) => sequence);
      const texts = await cell.run<(string | null)[]>("hmget", `${slotPrefix(cell.root, slot)}dead`, ...sequences);
      return texts.flatMap((text) => (text === null ? [] : [parseDeadLetter(slot, text)]));
    });
    const byId = new Map((await Promise.all(letters)).flat().map((letter) => [letter.id, letter]));
    return places.flatMap((place) => byId.get(deadLetterId(place)) ?? []);
  }

  async retryDeadLetter(id: string): Promise<boolean> {
    const place = parseDeadLetterId(id);
    if (!place) return false;
    const cell = this.#cells.ofSlot(place.slot);
    const prefix = slotPrefix(cell.root, place.slot);
    return (await cell.run(retryDeadScript, ...scriptKeys(cell, place.slot), prefix, place.sequence)) === 1;
  }

  async removeDeadLetter(id: string): Promise<boolean> {
    const place = parseDeadLetterId(id);
    if (!place) return false;
    const cell = this.#cells.ofSlot(place.slot);
    const prefix = slotPrefix(cell.root, place.slot);
    return (await cell.run(removeDeadScript, ...scriptKeys(cell, place.slot), prefix, place.sequence)) === 1;
  }

  async release(queue: QueueName): Promise<boolean> {
    const slot = slotOfQueue(queue);
    const cell = this.#cells.ofSlot(slot);
    const prefix = slotPrefix(cell.root, slot);
    return (await cell.run(releaseScript, ...scriptKeys(cell, slot), prefix, queueText(queue))) === 1;
  }

  async heldQueues(key: string): Promise<readonly QueueName[]> {
    const held = await this.#ofEverySlot(async (cell, slot) => {
      const prefix = slotPrefix(cell.root, slot);
      return Promise.all([
        cell.run<string[]>("smembers", `${prefix}parked`),
        cell.run<string[]>("zrange", `${prefix}delays`, "0", "-1"),
      ]);
    });
    const queues = held.flat(2).map((member) => parseQueue(member.slice(member.indexOf(" ") + 1)));
    return queues.filter((queue) => queue.key === key);
  }

  /** The oldest of a slot that stand after a place. */
  async #deadPlaces(
    slot: number,
    { count, after }: { count: number; after: DeadLetterPlace | undefined },
  ): Promise<readonly DeadLetterPlace[]> {
    const cell = this.#cells.ofSlot(slot);
    const from = after ? `${slot < after.slot ? "(" : ""}${after.failedAt}` : "-inf";
    const most = slot === after?.slot ? count + maxDeadPerMs : count;
    const range = [`${slotPrefix(cell.root, slot)}deadAt`, from, "+inf", "BYSCORE", "LIMIT", 0, most, "WITHSCORES"];
    const reply = await cell.run<string[]>("zrange", ...range);
    const places: DeadLetterPlace[] = [];
    for (let at = 0; at + 1 < reply.length; at += 2) {
      const place = { failedAt: Number(reply[at + 1]), slot, sequence: reply[at] ?? "" };
      if (!after || comparePlaces(place, after) > 0) places.push(place);
    }
    return places.slice(0, count);
  }

  async #count(name: "depths" | "sources", fields: readonly string[]): Promise<number> {
    const { results, unreached } = await this.#groups.ask(everySlot, async (cell, slots) => {
      const prefixes = slots.map((slot) => slotPrefix(cell.root, slot));
      return cell.run(waitingScript, ...scriptKeys(cell, slots[0] ?? 0), name, fields.length, ...fields, ...prefixes);
    });
    const [missing] = unreached;
    if (missing && results.length === 0) throw missing.error;
    return results.reduce((sum, count) => sum + count, 0);
  }

  async #ofEverySlot<Result>(ask: (cell: CellAccess, slot: number) => Promise<Result>): Promise<Result[]> {
    return Promise.all(everySlot.map(async (slot) => ask(this.#cells.ofSlot(slot), slot)));
  }
}

function toClaimReply([more, ...claimed]: GroupReply, request: ClaimRequest | undefined): ClaimReply {
  return {
    more: more === 1,
    claimed: claimed.map(([lease, ...items]): Claimed => {
      const parsed = items.map(parseItem) as [QueuedItem, ...QueuedItem[]];
      return { ...parseLease(request?.slot ?? 0, lease), items: parsed };
    }),
  };
}

function inChunks<Value>(values: readonly Value[], size: number): Value[][] {
  return Array.from({ length: Math.ceil(values.length / size) }, (_, chunk) =>
    values.slice(chunk * size, (chunk + 1) * size),
  );
}
