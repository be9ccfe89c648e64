/**
 * Names of keys and topics of queues in Redis, and the format of their values. All names of a slot begin with one prefix, which contains
 * its hash tag and ends with the version of this format, `queues2:`. Builds with different formats must share no key: a script that finds
 * another format may stop halfway, and Redis does not roll back.
 *
 *     q:QUEUE             list      the items in order, two elements for each: its label (sequence, class, maybe source), and its content
 *                                   (head and data, a line each; the data may have more). The first ones stay while they are in flight
 *     k:QUEUE             hash      attempts, previous; only while the queue is delayed or parked
 *     r:LANE              list      queues that are ready for a worker, each with its attempts and previous
 *     lanes               set       lanes with ready queues
 *     leases, delays      zset      when a lease ends (its text has everything else), when the next attempt is due
 *     parked              set       queues that wait for an operator
 *     depths              hash      class:tenant → items
 *     sources             hash      source of the items, see contract.ts → items
 *     left                hash      tenant whose new queues are in another slot → version of the map of cells that says so
 *     id:ID               string    an item with this id was stored
 *     claim:ID            string    the queue that an item with this id goes to, stored or not; in the slot of the id (claimed-ids.ts)
 *     numbers, numbers:…  string    the last sequence or fencing token of this Redis; in a cluster of this slot
 *     dead, deadAt        hash, zset   dead letters by sequence
 *     ready               topic     lanes that have ready queues now, of this and other slots
 */
import { slotTag } from "../channels/keys.ts";
import { slotOf } from "../redis/slots.ts";
import type { Claimed, DeadLetter, QueuedItem, QueueName, ReadyQueues } from "./contract.ts";
import { deadLetterId } from "./dead-letter-places.ts";

/** One line. Injective: the name of a service has no colon, and colons in that of a tenant are escaped. */
export function queueText({ service, tenant, key }: QueueName): string {
  return `${service}:${tenantText(tenant)}:${keyText(key)}`;
}

// Most names need no escape, and to look for one is cheaper.
export function keyText(key: string): string {
  return /[%\r\n]/.test(key) ? key.replaceAll(/[%\r\n]/g, encodeURIComponent) : key;
}

export function parseQueue(text: string): QueueName {
  const [, service = "", tenant = "", key = ""] = /^([^:]*):([^:]*):(.*)$/s.exec(text) ?? [];
  return { service, tenant: unescaped(tenant), key: unescaped(key) };
}

export function tenantText(tenant: string): string {
  return /[%:\s]/.test(tenant) ? tenant.replaceAll(/[%:\s]/g, encodeURIComponent) : tenant;
}

/** The inverse of the escapes above. Text that cannot be decoded stays as it is: one bad name must not hide the others. */
export function unescaped(text: string): string {
  if (!text.includes("%")) return text;
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export function slotOfQueue(queue: QueueName): number {
  return slotOf(queueText(queue));
}

/** The key that says that an item with the id was stored. */
export function idKey(root: string, slot: number, dedupeId: string): string {
  return `${slotPrefix(root, slot)}id:${dedupeId}`;
}

/** The key that names the queue that an item with the id goes to. */
export function claimKey(root: string, slot: number, dedupeId: string): string {
  return `${slotPrefix(root, slot)}claim:${dedupeId}`;
}
/** Prefixes by root and slot. Made once, because each script call names many slots. A process has one root. */
const prefixes = new Map<string, string[]>();

/** What the names of all keys of a slot begin with. */
export function slotPrefix(root: string, slot: number): string {
  let ofRoot = prefixes.get(root);
  if (!ofRoot) {
    ofRoot = [];
    prefixes.set(root, ofRoot);
  }
  return (ofRoot[slot] ??= `${slotTag(root, slot)}:queues2:`);
}

/**
 * The keys of a script call for slots beginning with this one: the counter of sequences and fencing tokens, and a name that no key has. If
 * one script spans slots, one counter serves all of them. While a cluster moves the hash slot, the missing key makes both servers refuse
 * the script before it begins: each of them has only a part of the slot's keys.
 */
export function scriptKeys(cell: { root: string; spansSlots: boolean }, slot: number): [numbers: string, none: string] {
  const prefix = slotPrefix(cell.root, cell.spansSlots ? 0 : slot);
  return [`${prefix}numbers`, `${prefix}none`];
}

export function readyTopic(root: string, slot: number): string {
  return `${slotPrefix(root, slot)}ready`;
}

export function isReadyTopic(root: string, topic: string): boolean {
  return topic.startsWith(root) && /^:\{\d+\}:queues2:ready$/.test(topic.slice(root.length));
}

/** A message of a {@link readyTopic}: slot and lane, a line each. */
export function parseNews(message: string): ReadyQueues[] {
  return message.split("\n").map((line) => {
    const at = line.indexOf(" ");
    return parseLane(Number(line.slice(0, at)), line.slice(at + 1));
  });
}

export function laneText({ class: name, service, attempt, tenant }: Omit<ReadyQueues, "slot">): string {
  return `${name}:${service}:${attempt === "first" ? "f" : "r"}:${tenantText(tenant)}`;
}

/** `class:tenant`, as depths are counted. */
export function parseDepth(text: string): { class: string; tenant: string } {
  const [name = "", tenant = ""] = text.split(":");
  return { class: name, tenant: unescaped(tenant) };
}

/** `class:service:tenant` */
export function parseLook(text: string): { class: string; service: string; tenant: string } {
  const [name = "", service = "", tenant = ""] = text.split(":");
  return { class: name, service, tenant: unescaped(tenant) };
}

/** A pattern of Redis for members of `delays` and `parked` (class and queue). It matches every queue of the key, and few others. */
export function heldPattern(key: string): string {
  return `* *:*:${keyText(key).replaceAll(/[\\*?[\]]/g, String.raw`\$&`)}`;
}

export function parseLane(slot: number, text: string): ReadyQueues {
  const [name = "", service = "", kind, tenant = ""] = text.split(":");
  const attempt = kind === "f" ? "first" : "retry";
  return { slot, class: name, service, attempt, tenant: unescaped(tenant) };
}

/** Parses the text of a lease on a queue in that lane: see claim.lua. @param content of its first item */
export function parseLease(
  { slot, class: name, service, tenant }: ReadyQueues,
  text: string,
  content: ItemContent,
): Pick<Claimed, "lease" | "attempts" | "previous"> & { first: QueuedItem } {
  // Cheaper than an expression, and this is done for each item.
  const classAt = text.indexOf(" ") + 1;
  const itemsAt = text.indexOf(" ", classAt) + 1;
  const sequenceAt = text.indexOf(" ", itemsAt) + 1;
  const sourceAt = text.indexOf(" ", sequenceAt) + 1;
  const followingAt = text.indexOf(" ", sourceAt) + 1;
  const attemptsAt = text.indexOf(" ", followingAt) + 1;
  const previousAt = text.indexOf(" ", attemptsAt) + 1;
  const queueAt = text.indexOf(" ", previousAt) + 1;
  const keyAt = text.indexOf(":", text.indexOf(":", queueAt) + 1) + 1;
  const fence = paddedNumber(text.slice(0, classAt - 1));
  const items = Number(text.slice(itemsAt, sequenceAt - 1));
  const sequence = text.slice(sequenceAt, sourceAt - 1);
  const source = text.slice(sourceAt, followingAt - 1);
  const previous = text.slice(previousAt, queueAt - 1);
  const queue = { service, tenant, key: unescaped(text.slice(keyAt)) };
  return {
    lease: { slot, text, queue, class: name, fence, items },
    attempts: Number(text.slice(attemptsAt, previousAt - 1)),
    previous: previous === "0" ? undefined : paddedNumber(previous),
    first: itemOf({ sequence, class: name, source }, content),
  };
}

/** Of an item that was leased as it was stored: see enqueue.lua. @param item.text of its queue */
export function leaseOfStored(
  item: {
    slot: number;
    queue: QueueName;
    text: string;
    class: string;
    source: string | undefined;
    content: ItemContent;
  },
  { sequence, fence }: { sequence: string; fence: string },
): Pick<Claimed, "lease" | "attempts" | "previous"> & { first: QueuedItem } {
  const { slot, queue, class: name, source = "", content } = item;
  const text = `${fence} ${name} 1 ${sequence} ${source}  0 0 ${item.text}`;
  return {
    lease: { slot, text, queue, class: name, fence: paddedNumber(fence), items: 1 },
    attempts: 0,
    previous: undefined,
    first: itemOf({ sequence, class: name, source }, content),
  };
}

const numberDigits = 20;

/** Sequences and fencing tokens, so that they can be compared as text. */
export function paddedNumber(number: string | number): string {
  return String(number).padStart(numberDigits, "0");
}

export function parseItem(label: string, content: ItemContent): QueuedItem {
  const [sequence = "", name = "", source = ""] = label.split(" ");
  return itemOf({ sequence, class: name, source }, content);
}

/** @param label.source "": it has none */
function itemOf(
  { sequence, class: name, source }: Required<Omit<QueuedItem, "head" | "data">>,
  { head, data }: ItemContent,
): QueuedItem {
  const item = { sequence: paddedNumber(sequence), class: name, head, data };
  return source === "" ? item : { ...item, source };
}

export type ItemContent = Pick<QueuedItem, "head" | "data">;

export function parseContent(text: string): ItemContent {
  const dataAt = text.indexOf("\n") + 1;
  return { head: text.slice(0, dataAt - 1), data: text.slice(dataAt) };
}

/** Time and queue in the first line, the failure in the second, the label of the item in the third, then its content. */
export function parseDeadLetter(slot: number, text: string): DeadLetter {
  const failureAt = text.indexOf("\n");
  const labelAt = text.indexOf("\n", failureAt + 1);
  const contentAt = text.indexOf("\n", labelAt + 1);
  const [, failedAt = "0", queue = ""] = /^(\d+) (.*)$/s.exec(text.slice(0, failureAt)) ?? [];
  const item = parseItem(text.slice(labelAt + 1, contentAt), parseContent(text.slice(contentAt + 1)));
  return {
    id: deadLetterId({ failedAt: Number(failedAt), slot, sequence: item.sequence }),
    queue: parseQueue(queue),
    failedAt: Number(failedAt),
    failure: text.slice(failureAt + 1, labelAt),
    item,
  };
}
