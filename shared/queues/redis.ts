import type { Cells } from "../redis/cells.ts";
import { type Script, script } from "../redis/scripts.ts";
import { SlotGroups, type UnreachedSlots } from "../redis/slot-groups.ts";
import { everyPinSlot, everySlot, slotCount } from "../redis/slots.ts";
import type { StoreState } from "../runtime/store-state.ts";
import {
  type Claimed,
  type ClaimReply,
  type ClaimRequest,
  type DeadLetter,
  type Enqueued,
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
  comparePlaces,
  deadLetterId,
  type DeadLetterPlace,
  oldestPlaces,
  parseDeadLetterId,
} from "./dead-letter-places.ts";
import {
  heldPattern,
  isReadyTopic,
  laneText,
  parseDeadLetter,
  parseDepth,
  parseItem,
  parseLane,
  parseLease,
  parseLook,
  parseNews,
  parseQueue,
  queueText,
  readyTopic,
  scriptKeys,
  slotPrefix,
  tenantText,
} from "./keys.ts";
import { depthsOf } from "./depths.ts";
import { Enqueues } from "./enqueues.ts";
import { SlotBatches } from "./slot-batches.ts";
import { placesOf } from "./tenant-places.ts";

type ClaimedReply = [lease: string, ...items: string[]];
type GroupReply = [more: 0 | 1, ...claimed: ClaimedReply[]];

/** Of each slot, in one script call. */
const maxPromoted = 100;
/** Lanes, leases, delays and parked queues of each slot. */
const maxLookedAt = 50;
/** Dead letters of a slot with one time: each takes a script call. */
const maxDeadPerMs = 1_000;
const scanCount = 1_000;
/** Slots that one script call lists or looks at: 16,000 lanes or 3,200 queues at most, about 10 ms of Redis. */
const slotsListedAtOnce = 16;

const claimScript = queueScript<GroupReply[]>("claim.lua", { isBatch: true });
const ackScript = queueScript<(0 | 1)[]>("ack.lua", { isBatch: true });
const retryScript = queueScript<0 | 1>("retry.lua");
const extendScript = queueScript<(0 | 1)[]>("extend.lua");
const promoteScript = queueScript<number>("promote.lua");
const readyScript = queueScript<string[][]>("ready.lua");
const waitingScript = queueScript<number>("waiting.lua");
const overviewScript =
  queueScript<
    [
      now: string,
      dead: number,
      ...entries: [text: string, queues: number, items: number, inFlight: number, oldestAt: string][],
    ]
  >("overview.lua");
const releaseScript = queueScript<0 | 1>("release.lua");
const retryDeadScript = queueScript<0 | 1 | "left">("retry-dead.lua");
const removeDeadScript = queueScript<0 | 1>("remove-dead.lua");

/** Its keys are {@link scriptKeys}: they say which server runs it, and whether it may. */
function queueScript<Reply>(file: string, options: { isBatch?: boolean } = {}): Script<Reply> {
  return script<Reply>(new URL(file, import.meta.url), 2, options);
}

/** Queues on Redis 7: standalone, Sentinel or Cluster. */
export class RedisQueueStore implements QueueStore, QueueOperations {
  readonly #cells: Cells;
  readonly #listeners: QueueListener[] = [];
  readonly #enqueues: Enqueues;
  readonly #acks: SlotBatches<0 | 1>;
  readonly #leaseMs: number;
  readonly #groups: SlotGroups;

  /** @param options.leaseMs shorter than the default in tests */
  constructor(cells: Cells, options: { leaseMs?: number } = {}) {
    this.#leaseMs = options.leaseMs ?? leaseMs;
    this.#cells = cells;
    this.#groups = new SlotGroups(cells, { keys: scriptKeys, prefix: slotPrefix });
    this.#enqueues = new Enqueues(cells);
    this.#acks = new SlotBatches({
      script: ackScript,
      arguments: (groups) => groups.flatMap(({ prefix, entries }) => [prefix, entries.length, ...entries.flat()]),
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

  async enqueue(item: NewItem): Promise<Enqueued> {
    return this.#enqueues.add(item);
  }

  async wasStored({ queue, dedupeId }: Pick<NewItem, "queue" | "dedupeId">): Promise<boolean> {
    if (dedupeId === undefined) return false;
    const known = placesOf(this.#cells.map, queue).slots.map(async (slot) => {
      const cell = this.#cells.ofSlot(slot);
      return cell.run<number>("exists", `${slotPrefix(cell.root, slot)}id:${dedupeId}`);
    });
    return (await Promise.all(known)).includes(1);
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
      const { slot, text } = lease;
      return (await this.#acks.add(slot, () => [text, settlement.done, last], text.length)) === 1;
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
    for (const slot of this.#cells.isRouted ? [...everySlot, ...everyPinSlot] : everySlot) {
      // Where Redis is away the topic is subscribed once it is back, and the listeners hear of it (onRestored).
      this.#cells.subscribe(slot, readyTopic(root, slot)).catch(() => undefined);
    }
  }

  async depths(): Promise<QueueOverview> {
    // The slots that cannot be reached are those of the look.
    const counted = await Promise.allSettled(
      this.#cells.queueSlots.map(async (slot) => {
        const cell = this.#cells.ofSlot(slot);
        return cell.run<Record<string, string>>("hgetall", `${slotPrefix(cell.root, slot)}depths`);
      }),
    );
    const looked = await this.#groups.askInChunks(this.#cells.queueSlots, slotsListedAtOnce, async (cell, slots) => {
      const prefixes = slots.map((slot) => slotPrefix(cell.root, slot));
      return cell.run(overviewScript, ...scriptKeys(cell, slots[0] ?? 0), maxLookedAt, ...prefixes);
    });
    const [missing] = looked.unreached;
    if (missing && looked.results.length === 0) throw missing.error;
    const items = new Map<string, number>();
    for (const outcome of counted) {
      if (outcome.status === "rejected") continue;
      for (const [name, count] of Object.entries(outcome.value))
        items.set(name, (items.get(name) ?? 0) + Number(count));
    }
    const counts = [...items].map(([text, count]) => ({ ...parseDepth(text), items: count }));
    const looks = looked.results.flatMap(([now, , ...entries]) =>
      entries.map(([text, queues, own, inFlight, oldestAt]) => {
        const oldestMs = oldestAt === "0" ? 0 : Math.max(0, Number(now) - Number(oldestAt));
        return { ...parseLook(text), queues, items: own, inFlight, oldestMs };
      }),
    );
    return {
      ...depthsOf(counts, looks),
      deadLetters: looked.results.reduce((sum, [, dead]) => sum + dead, 0),
      unreachedSlots: looked.unreached.reduce((sum, { slots }) => sum + slots.length, 0),
    };
  }

  async deadLetters({ limit, after }: { limit: number; after?: string }): Promise<readonly DeadLetter[]> {
    const last = after === undefined ? undefined : parseDeadLetterId(after);
    const places = await oldestPlaces(this.#cells.queueSlots, limit, async (slot, count) =>
      this.#deadPlaces(slot, { count, after: last }),
    );
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
    const { pins } = this.#cells.map;
    if (pins.size === 0 && place.slot < slotCount) {
      const outcome = await cell.run(retryDeadScript, ...scriptKeys(cell, place.slot), prefix, place.sequence);
      if (outcome !== "left") return outcome === 1;
    }
    return this.#retryElsewhere(place, await cell.run<string | null>("hget", `${prefix}dead`, place.sequence));
  }

  /** To where new items of its tenant go, which may be another Redis. After a crash in between, another retry completes this one. */
  async #retryElsewhere(place: DeadLetterPlace, text: string | null): Promise<boolean> {
    if (text === null) return false;
    const { id, queue, item } = parseDeadLetter(place.slot, text);
    const { class: name, head, data, source } = item;
    await this.enqueue({
      queue,
      class: name,
      head,
      data,
      ...(source !== undefined && { source }),
      dedupeId: `dead ${id}`,
    });
    return this.removeDeadLetter(id);
  }

  async removeDeadLetter(id: string): Promise<boolean> {
    const place = parseDeadLetterId(id);
    if (!place) return false;
    const cell = this.#cells.ofSlot(place.slot);
    const prefix = slotPrefix(cell.root, place.slot);
    return (await cell.run(removeDeadScript, ...scriptKeys(cell, place.slot), prefix, place.sequence)) === 1;
  }

  async release(queue: QueueName): Promise<boolean> {
    const released = placesOf(this.#cells.map, queue).slots.map(async (slot) => {
      const cell = this.#cells.ofSlot(slot);
      return cell.run(releaseScript, ...scriptKeys(cell, slot), slotPrefix(cell.root, slot), queueText(queue));
    });
    return (await Promise.all(released)).includes(1);
  }

  async heldQueues(key: string): Promise<readonly QueueName[]> {
    const matching = ["MATCH", heldPattern(key), "COUNT", scanCount];
    const held = await Promise.all(
      this.#cells.queueSlots.map(async (slot) => {
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
    const { results, unreached } = await this.#groups.ask(this.#cells.queueSlots, async (cell, slots) => {
      const prefixes = slots.map((slot) => slotPrefix(cell.root, slot));
      return cell.run(waitingScript, ...scriptKeys(cell, slots[0] ?? 0), name, fields.length, ...fields, ...prefixes);
    });
    const [missing] = unreached;
    if (missing && results.length === 0) throw missing.error;
    return results.reduce((sum, count) => sum + count, 0);
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

type Scan = [cursor: string, found: string[]];

/** In steps: the server looks at about {@link scanCount} members at once. */
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
