/** One delivery: which items go into one request, what the request says, and what its answer means. Pure. */
import { isUtf8 } from "node:buffer";
import { parseJson } from "../../shared/json/json.ts";
import type { Claimed, QueuedItem } from "../../shared/queues/contract.ts";
import { type ItemHead, jsonOf, parseHead } from "../../shared/queues/item-head.ts";
import { retryAfterOf } from "../../shared/services/answers.ts";
import { encodeHeader } from "../../shared/services/cloudevents.ts";
import type { QueuePolicy } from "../../shared/rules/rules.ts";
import type { ServiceAnswer } from "../../shared/services/service-client.ts";

export interface Delivery {
  /** Of the queue. */
  slot: number;
  key: string;
  head: ItemHead;
  items: readonly [QueuedItem, ...QueuedItem[]];
  policy: QueuePolicy;
  body: string;
  /** Where the body stands for bytes. */
  encoding?: "base64";
  /** Of the first item, and of the one before it. */
  sequence: string;
  previous: string | undefined;
  fence: string;
  /** From 1 on. */
  attempt: number;
  webhookId: string;
}

/**
 * Takes the first of the claimed items that one request may carry: of one event, as many as its route allows.
 * @returns undefined if this version cannot read the first item
 */
export function deliveryOf(claimed: Claimed, policyOf: (head: ItemHead) => QueuePolicy): Delivery | undefined {
  const [first, ...others] = claimed.items;
  const head = parseHead(first.head);
  if (!head) return undefined;
  const policy = policyOf(head);
  const items: [QueuedItem, ...QueuedItem[]] = [first];
  for (const item of others) {
    if (items.length >= policy.batch || parseHead(item.head)?.event !== head.event) break;
    items.push(item);
  }
  const isBatch = policy.batch > 1;
  const last = items.at(-1) ?? first;
  const { lease, previous, attempts } = claimed;
  return {
    slot: lease.slot,
    key: lease.queue.key,
    head,
    items,
    policy,
    body: isBatch ? `[${items.map(jsonOf).join(",")}]` : first.data,
    ...(head.encoding !== undefined && !isBatch && { encoding: head.encoding }),
    sequence: first.sequence,
    previous,
    fence: lease.fence,
    attempt: attempts + 1,
    // A retry may carry other items, and is another message then.
    webhookId: items.length > 1 ? `${head.id}-${Number(last.sequence)}` : head.id,
  };
}

/** What a request to a service says of the queue. */
export function queueHeaders(delivery: Delivery): Record<string, string> {
  const { key, sequence, previous, fence, attempt, head, policy } = delivery;
  return {
    "ce-partitionkey": encodeHeader(key),
    "ce-sequence": sequence,
    ...(previous !== undefined && { "ce-previous": previous }),
    "ce-fence": fence,
    "tidegate-attempt": String(attempt),
    ...(head.contentType !== undefined && policy.batch <= 1 && { "content-type": head.contentType }),
  };
}

export type Verdict =
  | { kind: "done"; count: number }
  /** `counts`: an attempt was used up. */
  | { kind: "retry"; counts: boolean; afterMs?: number; error: DeliveryError }
  /** Another attempt would not help. */
  | { kind: "failed"; error: DeliveryError };

export interface DeliveryError {
  code: string;
  status?: number;
  message: string;
}

/** Where nothing was sent because there was no place. */
const noPlaceMs = 250;
/** A larger answer to a batch is not parsed for `done`: parsing this much takes less than a millisecond. */
const maxDoneBytes = 65_536;

interface Sent {
  items: number;
  isBatch: boolean;
  /** Every answer but a 2xx is retried. */
  isOutside?: boolean;
}

/** What the answer to a request with `items` items means. */
export function judge(answer: ServiceAnswer, sent: Sent): Verdict {
  switch (answer.kind) {
    case "busy":
      return {
        kind: "retry",
        counts: false,
        afterMs: noPlaceMs,
        error: failure("upstream_unavailable", "no free place"),
      };
    case "circuit_open":
      return {
        kind: "retry",
        counts: false,
        afterMs: answer.retryAfterMs,
        error: failure("upstream_unavailable", "the circuit is open"),
      };
    case "unreachable":
      return { kind: "retry", counts: true, error: failure("upstream_unavailable", answer.reason) };
    case "unanswered":
      return { kind: "retry", counts: true, error: failure("upstream_timeout", answer.reason) };
    // Any 2xx says that the work is done, whatever its body is.
    case "unreadable":
      return { kind: "done", count: sent.items };
    case "answer_too_large":
      return { kind: "done", count: sent.items };
    case "answered":
      return judgeStatus(answer, sent);
  }
}

function judgeStatus(
  answer: ServiceAnswer & { kind: "answered" },
  { items, isBatch, isOutside = false }: Sent,
): Verdict {
  const { status, body } = answer;
  if (status >= 200 && status < 300) return { kind: "done", count: isBatch ? (doneOf(body, items) ?? items) : items };
  const error = { ...failure(codeOf(status), `the service answered ${status}`), status };
  const afterMs = retryAfterOf(answer);
  if (afterMs !== undefined) return { kind: "retry", counts: false, afterMs, error };
  const isRetried = isOutside || status === 408 || status === 425 || status === 429 || status >= 500;
  return isRetried ? { kind: "retry", counts: true, error } : { kind: "failed", error };
}

/** `{ "done": k }`: the service accepted the first k. */
function doneOf(body: Buffer, items: number): number | undefined {
  if (body.length > maxDoneBytes || !isUtf8(body)) return undefined;
  const done = (parseJson(body.toString("utf8")) as { done?: unknown } | null | undefined)?.done;
  return Number.isSafeInteger(done) && Number(done) >= 0 ? Math.min(Number(done), items) : undefined;
}

function codeOf(status: number): string {
  if (status === 429) return "rate_limited";
  return status >= 500 ? "upstream_failed" : "upstream_rejected";
}

function failure(code: string, message: string): DeliveryError {
  return { code, message };
}

/** Exponential. Half of the delay is random, so that items that failed together are not retried together. */
export function retryDelayMs({ minMs, maxMs }: QueuePolicy, attempts: number, random: () => number): number {
  const fullMs = Math.min(maxMs, minMs * 2 ** Math.min(30, attempts - 1));
  return Math.round(fullMs * (0.5 + random() / 2));
}
