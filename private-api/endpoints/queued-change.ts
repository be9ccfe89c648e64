/** What of a change is queued for an endpoint. Pure, but for the id of the trace. */
import { createHash } from "node:crypto";
import type { Change, Gap } from "../../shared/changes/contract.ts";
import type { StoredEndpoint } from "../../shared/endpoints/contract.ts";
import { endpointClass, endpointService, endpointSource } from "../../shared/endpoints/endpoint.ts";
import { objectText } from "../../shared/json/json-text.ts";
import type { NewItem } from "../../shared/queues/contract.ts";
import { formatHead } from "../../shared/queues/item-head.ts";
import { orderingKey } from "../../shared/queues/ordering-key.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import { newTraceparent } from "../../shared/services/traceparent.ts";

/** No user sends changes. */
const noIdentity = { user: "", sessionId: "", claims: {} };

/** What is sent in place of changes that are gone. */
export const gapEvent = "tidegate.gap";
const gapKey = "tidegate.gap";

/** What is sent: its parts are written once for all endpoints. */
export interface Message {
  /** `webhook-id`: the same for every endpoint, and in every replay. */
  readonly id: string;
  readonly event: string;
  readonly body: string;
  /** Of the body. */
  readonly bytes: number;
  keyFor(stored: StoredEndpoint): string;
  /** Of the item; the same for all endpoints of a generation. */
  headFor(stored: StoredEndpoint): string;
}

export function changeMessage({ channel, epoch, offset, event, data, at }: Change): Message {
  const body = objectText({ type: event, timestamp: new Date(at).toISOString(), channel, epoch, offset }, { data });
  /** Many endpoints have the same pointer: the data is looked at once for each. */
  const keys = new Map([["channel", channel]]);
  return {
    ...messageOf(derivedId([channel, epoch, offset]), event, body),
    keyFor: ({ endpoint }) => {
      const key = keys.get(endpoint.key) ?? keyAt(data, endpoint.key) ?? channel;
      keys.set(endpoint.key, key);
      return key;
    },
  };
}

export function gapMessage({ from, to }: Gap): Message {
  const body = JSON.stringify({ type: gapEvent, timestamp: new Date(to).toISOString(), from, to });
  return { ...messageOf(derivedId([gapEvent, from, to]), gapEvent, body), keyFor: () => gapKey };
}

function messageOf(id: string, event: string, body: string): Omit<Message, "keyFor"> {
  // When it is queued: an endpoint that is behind makes no queue old.
  const about = { id, event, source: endpointSource, path: "", at: Date.now(), traceparent: newTraceparent() };
  const heads = new Map<number, string>();
  return {
    ...{ id, event, body },
    bytes: Buffer.byteLength(body),
    headFor: ({ generation }) => {
      const head = heads.get(generation) ?? formatHead({ ...about, generation }, noIdentity);
      heads.set(generation, head);
      return head;
    },
  };
}

/** A second one of the same generation is not stored within some minutes. */
export function itemFor(stored: StoredEndpoint, message: Message): NewItem {
  const { endpoint, generation } = stored;
  const service = endpointService(endpoint.id);
  return {
    queue: { service, tenant: endpoint.tenant ?? "", key: message.keyFor(stored) },
    class: endpointClass,
    head: message.headFor(stored),
    data: message.body,
    source: service,
    dedupeId: `${service}:${generation}:${message.id}`,
  };
}

/** When what a queued message is about was published, or its gap ended: Unix ms. */
export function timeOfMessage(body: string): number | undefined {
  const [, timestamp = ""] = /^\{"type":"(?:[^"\\]|\\.)*","timestamp":"([^"]*)"/.exec(body) ?? [];
  const at = Date.parse(timestamp);
  return Number.isNaN(at) ? undefined : at;
}

/** Undefined where the data has no such value: the change keeps its place in its channel. */
function keyAt(data: string, pointer: string): string | undefined {
  try {
    return orderingKey(data, pointer);
  } catch (error) {
    if (error instanceof TidegateError) return undefined;
    throw error;
  }
}

/** Without dots: the signature uses them as separators. */
function derivedId(parts: readonly (string | number)[]): string {
  return createHash("sha256").update(JSON.stringify(parts)).digest("base64url").slice(0, 32);
}
