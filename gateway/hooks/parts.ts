/** A webhook as the events of its route: one, or one for each part. */
import type { StorableEvent } from "../requests/store-event.ts";
import { assertName, assertWellFormed } from "../../shared/queues/ordering-key.ts";
import { hookEventId } from "../../shared/services/cloudevents.ts";
import type { Content } from "./content.ts";
import type { Envelope } from "./envelope.ts";
import { select, type SelectedBody } from "./selectors.ts";
import type { Source } from "./sources.ts";
import { splitJson } from "./split.ts";

export interface Webhook {
  readonly source: Source;
  readonly envelope: Envelope;
  readonly body: Buffer;
  readonly content: Content;
}

/** @throws TidegateError `invalid_request` where a selector finds nothing in one of the parts */
export function eventsOf({ source, envelope, body, content }: Webhook): readonly StorableEvent[] {
  if (source.split.length > 0 && content.kind === "json") {
    const parts = splitJson(content.json, source.split);
    return parts.map((json, index) => eventOf(source, envelope, { data: textOf(json), body: { json }, index }));
  }
  if (content.kind === "json") {
    return [eventOf(source, envelope, { data: textOf(body), body: { json: content.json }, index: 0 })];
  }
  const { contentType } = content;
  const fields = content.kind === "form" ? { form: content.form } : undefined;
  const data =
    content.kind === "bytes" ? { data: body.toString("base64"), encoding: "base64" as const } : { data: textOf(body) };
  return [eventOf(source, envelope, { ...data, body: fields, index: 0, contentType })];
}

interface Part {
  readonly data: string;
  readonly body: SelectedBody;
  readonly index: number;
  readonly contentType?: string;
  readonly encoding?: "base64";
}

function eventOf(source: Source, envelope: Envelope, part: Part): StorableEvent {
  const { data, body, index, contentType, encoding } = part;
  const { name, route, key, id, tenant } = source;
  const find = (selector: typeof key, purpose: string): string | undefined =>
    selector && select(selector, purpose, envelope, body);
  const tenantName = find(tenant, "tenant");
  const keyText = find(key, "key");
  const givenId = find(id, "id");
  if (tenantName !== undefined) assertName(tenantName, "tenant");
  if (keyText !== undefined) assertName(keyText, "key");
  if (givenId !== undefined) assertWellFormed(givenId, "id");
  const ce = source.identity.user;
  // An id from outside of the body is that of the whole webhook.
  const ownId =
    givenId === undefined || id?.from === "body" || source.split.length === 0 ? givenId : `${givenId} ${index}`;
  return {
    identity: tenantName === undefined ? source.identity : { ...source.identity, tenant: tenantName },
    event: source.rule.route,
    route,
    key: keyText ?? ce,
    class: source.class,
    id: hookEventId(name, ownId),
    dedupes: dedupesOf(source, givenId),
    source: ce,
    hook: name,
    data,
    ...(contentType !== undefined && { contentType }),
    ...(encoding !== undefined && { encoding }),
  };
}

function dedupesOf({ rule }: Source, givenId: string | undefined): StorableEvent["dedupes"] {
  if (givenId !== undefined) return "everywhere";
  // What the journal replays may be in its queue already.
  return rule.journal ? "in its queue" : "nowhere";
}

function textOf(json: Uint8Array): string {
  return Buffer.from(json.buffer, json.byteOffset, json.length).toString("utf8");
}
