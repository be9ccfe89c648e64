/** The item that is queued for an endpoint for each change. Pure, except for the trace id and the time of queueing. */
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

/** A message as it is sent. Its parts are formatted once for all endpoints. */
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
  /** By pointer: many endpoints have the same one, and the data is parsed once for each pointer. */
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
  // `at` is the time of queueing: with the time of the change, an endpoint that is behind would make its queue look old.
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

/** For some minutes, the queues do not store a second item for the same message and generation. */
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

/** Unix ms at which the change of a queued message was published, or its gap ended. */
export function timeOfMessage(body: string): number | undefined {
  const [, timestamp = ""] = /^\{"type":"(?:[^"\\]|\\.)*","timestamp":"([^"]*)"/.exec(body) ?? [];
  const at = Date.parse(timestamp);
  return Number.isNaN(at) ? undefined : at;
}

/** Undefined if the data has no such value: the channel is the key then. */
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
