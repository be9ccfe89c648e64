/** The head of a queued item: what a delivery needs besides the data. The program that enqueues writes it, the dispatcher reads it. */
import { type Static, Type } from "typebox";
import { Compile } from "typebox/compile";
import { parseJson } from "../json/json.ts";
import type { Identity } from "../services/identity-token.ts";
import type { QueuedItem } from "./contract.ts";

const ItemHead = Type.Object({
  /** `ce-id`: the same through every attempt. */
  id: Type.String(),
  event: Type.String(),
  /** `ce-source` */
  source: Type.String(),
  /** Appended to the URL of the service. */
  path: Type.String(),
  /** Unix ms. */
  at: Type.Number(),
  traceparent: Type.String(),
  user: Type.String(),
  tenant: Type.Optional(Type.String()),
  sessionId: Type.String(),
  claims: Type.Record(Type.String(), Type.Unknown()),
  /** Of data that is not JSON. */
  contentType: Type.Optional(Type.String()),
  /** Of data that stands for bytes. */
  encoding: Type.Optional(Type.Literal("base64")),
  /** Of the endpoint when it was queued: after a seek it is not sent. */
  generation: Type.Optional(Type.Integer()),
});
export type ItemHead = Static<typeof ItemHead>;

const validator = Compile(ItemHead);

/** By identity: a session's items have the same. */
const identityTexts = new WeakMap<Identity, string>();

/** In one line. @param identity does not change */
export function formatHead(about: Omit<ItemHead, keyof Identity>, identity: Identity): string {
  let text = identityTexts.get(identity);
  if (text === undefined) {
    const { user, tenant, sessionId, claims } = identity;
    text = JSON.stringify({ user, tenant, sessionId, claims });
    identityTexts.set(identity, text);
  }
  return `${JSON.stringify(about).slice(0, -1)},${text.slice(1)}`;
}

/** Undefined for what is not the head of an item. */
export function parseHead(text: string): ItemHead | undefined {
  const head = parseJson(text);
  return validator.Check(head) ? head : undefined;
}

/** JSON text: the data itself, or a string of it where it is not JSON. */
export function jsonOf({ head, data }: QueuedItem): string {
  return parseHead(head)?.contentType === undefined ? data : JSON.stringify(data);
}
