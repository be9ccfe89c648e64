/**
 * Names of keys and topics in Redis, and the format of published messages. All names of one slot share a hash tag.
 * `root` begins all names of the deployment ({@link RedisConnections.root}).
 */
import { type Static, Type } from "typebox";
import { Compile } from "typebox/compile";
import type { Ephemeral, Publication, Topic, UserMessage } from "./contract.ts";
import type { IdentityKey } from "../protocol/identity-key.ts";
import { parseJson } from "../json/json.ts";
import { slotOf } from "../redis/slots.ts";

export function channelKeys(root: string, channel: string): { state: string; history: string } {
  const slot = slotTagOf(root, channel);
  return { state: `${slot}:state:${channel}`, history: `${slot}:history:${channel}` };
}

/**
 * Everything of a slot's change log begins with `log`:
 *
 *     changes           stream    the changes
 *     changes:state     hash      newest, trimmed, resumed, bytes, oldest, replid: see append-change.part.lua
 *     changes:rows      stream    rows of SQL sources that have left it: see note-rows.part.lua
 *     changes:live      zset      name of a cursor → time of its place
 *     changes:cursors   hash      name of a cursor → place
 *     changes:reader    hash      holder, fence, until: the lease on reading
 *     changes:none      none      see `scriptKeys`
 *     changes:news      topic     channels of changes, as they are appended
 */
export function changeKeys(root: string, slot: number): { log: string; state: string; live: string; news: string } {
  const log = `${slotTag(root, slot)}:changes`;
  return { log, state: `${log}:state`, live: `${log}:live`, news: `${log}:news` };
}

/** The state of a stream, which is the history of a channel or the change log of the slot; undefined for other keys. */
export function stateOfStream(root: string, slot: number, key: string): string | undefined {
  const { log, state } = changeKeys(root, slot);
  if (key === log || key === `${log}:rows`) return state;
  const history = `${slotTag(root, slot)}:history:`;
  return key.startsWith(history) ? `${slotTag(root, slot)}:state:${key.slice(history.length)}` : undefined;
}

/** Hash: name of a sequence of publications → mark of the last one in this slot. */
export function marksKey(root: string, channel: string): string {
  return `${slotTagOf(root, channel)}:marks`;
}

/** A channel may contain colons; colons of the id are escaped. So the id begins after the last colon. */
export function idempotencyKey(root: string, kind: "publication" | "ephemeral", channel: string, id: string): string {
  return `${slotTagOf(root, channel)}:id:${kind}:${channel}:${id.replaceAll(/[%:]/g, encodeURIComponent)}`;
}

export function topicName(root: string, topic: Topic): string {
  return `${slotTagOf(root, topic.name)}:${topic.kind}:${topic.name}`;
}

export function slotTag(root: string, slot: number): string {
  return `${root}:{${slot}}`;
}

export function slotTagOf(root: string, name: string): string {
  return slotTag(root, slotOf(name));
}

/** The inverse of {@link topicName}; undefined for other names. */
export function parseTopicName(root: string, name: string): Topic | undefined {
  if (!name.startsWith(root)) return undefined;
  const [, kind, rest] = /^:\{\d+\}:(channel|user):(.+)$/s.exec(name.slice(root.length)) ?? [];
  if (rest === undefined) return undefined;
  return kind === "user" ? { kind, name: rest as IdentityKey } : { kind: "channel", name: rest };
}

export type ChannelMessage =
  { kind: "publication"; epoch: string; publication: Publication } | { kind: "ephemeral"; ephemeral: Ephemeral };

/** Parses messages of publish.lua and publish-ephemeral.lua: a head line, then the data. */
export function parseChannelMessage(message: string): ChannelMessage | undefined {
  const headEnd = message.indexOf("\n");
  const [kind, ...head] = message.slice(0, headEnd).split(" ");
  const data = message.slice(headEnd + 1);
  if (kind === "e" && head.length === 1) return { kind: "ephemeral", ephemeral: { event: head[0] ?? "", data } };
  const [epoch, offset, prev, event] = head;
  if (kind !== "p" || epoch === undefined || event === undefined) return undefined;
  const publication = { offset: Number(offset), prev: Number(prev), event, data };
  return Number.isSafeInteger(publication.offset) && Number.isSafeInteger(publication.prev)
    ? { kind: "publication", epoch, publication }
    : undefined;
}

const UserMessageSchema = Type.Union([
  Type.Object({ kind: Type.Literal("send"), event: Type.String(), data: Type.String() }),
  Type.Object({
    kind: Type.Literal("disconnect"),
    reason: Type.String(),
    reconnect: Type.Boolean(),
    sessionId: Type.Optional(Type.String()),
  }),
  Type.Object({ kind: Type.Literal("subscribe"), channel: Type.String() }),
  Type.Object({ kind: Type.Literal("refresh") }),
  Type.Object({ kind: Type.Literal("unsubscribe"), channel: Type.String(), at: Type.Integer() }),
  Type.Object({ kind: Type.Literal("replaced"), sessionId: Type.String(), claim: Type.Integer() }),
]);
const userMessageValidator = Compile(UserMessageSchema);

export function formatUserMessage(message: UserMessage): string {
  return JSON.stringify(message satisfies Static<typeof UserMessageSchema>);
}

export function parseUserMessage(message: string): UserMessage | undefined {
  const value = parseJson(message);
  return userMessageValidator.Check(value) ? value : undefined;
}
