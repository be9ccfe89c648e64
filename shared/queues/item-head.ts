/**
 * The head of a queued item: what a delivery needs besides the data. The program that enqueues writes it, the dispatcher reads it.
 * Its text is one line: when it was queued, its trace and its id; then, as JSON, what it has in common with other items of its session.
 */
import { type Static, Type } from "typebox";
import { Compile } from "typebox/compile";
import { parseJson } from "../json/json.ts";
import type { Identity } from "../services/identity-token.ts";
import type { QueuedItem } from "./contract.ts";
import { unescaped } from "./keys.ts";

const CommonHead = Type.Object({
  event: Type.String(),
  /** `ce-source` */
  source: Type.String(),
  /** Appended to the URL of the service. */
  path: Type.String(),
  user: Type.String(),
  tenant: Type.Optional(Type.String()),
  sessionId: Type.String(),
  claims: Type.Record(Type.String(), Type.Unknown()),
  /** Of data that is not JSON. */
  contentType: Type.Optional(Type.String()),
  /** Of data that stands for bytes. */
  encoding: Type.Optional(Type.Literal("base64")),
  /** Generation of the endpoint when the item was queued: after a seek, items of earlier generations are not sent. */
  generation: Type.Optional(Type.Integer()),
});
type CommonHead = Static<typeof CommonHead>;

export interface ItemHead extends CommonHead {
  /** `ce-id`: the same through every attempt. */
  id: string;
  /** Unix ms. */
  at: number;
  traceparent: string;
}

const validator = Compile(CommonHead);

type About = Omit<ItemHead, keyof Identity>;

/** Longer texts are not kept: an identity lives as long as its session, and a node has many. */
const maxKeptText = 1_024;
/** The common part of the last item of each identity, and its text: most sessions repeat one event. */
const lastTexts = new WeakMap<Identity, { about: About; text: string }>();

/** @returns one line. @param identity must not change: the text is cached by this object */
export function formatHead(about: About, identity: Identity): string {
  let last = lastTexts.get(identity);
  if (!last || !haveInCommon(last.about, about)) {
    const { event, source, path, contentType, encoding, generation } = about;
    const { user, tenant, sessionId, claims } = identity;
    const common = { event, source, path, user, tenant, sessionId, claims, contentType, encoding, generation };
    last = { about, text: JSON.stringify(common) };
    if (last.text.length <= maxKeptText) lastTexts.set(identity, last);
  }
  return `${about.at} ${about.traceparent} ${idText(about.id)} ${last.text}`;
}

function haveInCommon(one: About, other: About): boolean {
  return (
    one.event === other.event &&
    one.source === other.source &&
    one.path === other.path &&
    one.contentType === other.contentType &&
    one.encoding === other.encoding &&
    one.generation === other.generation
  );
}

/** Without white space. Most ids need no escape. */
function idText(id: string): string {
  return /[%\s]/.test(id) ? id.replaceAll(/[%\s]/g, encodeURIComponent) : id;
}

/** Those that were parsed last, by text. */
const commonHeads = new Map<string, CommonHead>();
const maxCommonHeads = 1_000;

/** A change has the same head for each of its endpoints. */
let lastHead: { text: string; head: ItemHead | undefined } = { text: "", head: undefined };

/** The caller must not change the result, which is cached. @returns undefined if the text is not the head of an item. */
export function parseHead(text: string): ItemHead | undefined {
  if (text !== lastHead.text) lastHead = { text, head: parsed(text) };
  return lastHead.head;
}

function parsed(text: string): ItemHead | undefined {
  const traceAt = text.indexOf(" ") + 1;
  const idAt = text.indexOf(" ", traceAt) + 1;
  const commonAt = text.indexOf(" ", idAt) + 1;
  const at = Number(text.slice(0, traceAt));
  if (traceAt < 2 || idAt === 0 || commonAt === 0 || !Number.isSafeInteger(at)) return undefined;
  const common = parseCommon(text.slice(commonAt));
  const id = unescaped(text.slice(idAt, commonAt - 1));
  return common && { ...common, id, at, traceparent: text.slice(traceAt, idAt - 1) };
}

function parseCommon(text: string): CommonHead | undefined {
  const known = commonHeads.get(text);
  if (known) return known;
  const common = parseJson(text);
  if (!validator.Check(common)) return undefined;
  if (commonHeads.size >= maxCommonHeads) commonHeads.clear();
  // A substring would keep the whole text of the item in memory, with its data. The copy does not.
  commonHeads.set(Buffer.from(text).toString(), common);
  return common;
}

/** JSON text: the data itself, or a string of it where it is not JSON. */
export function jsonOf({ head, data }: QueuedItem): string {
  return parseHead(head)?.contentType === undefined ? data : JSON.stringify(data);
}
