/** What an emit of an old server becomes. Pure. */
import { isTooDeep } from "../../shared/json/json.ts";
import { maxJsonDepth } from "../../shared/json/json-scan.ts";
import { isApplicationEvent } from "../../shared/protocol/grammar.ts";
import { maxPayloadBytes } from "../../shared/protocol/limits.ts";
import type { RoomMap } from "../../shared/rules/bridge-rooms.ts";

/** The member of an emit's flags that holds the identity of the bridge that sent it. Servers pass unknown flags on and ignore them. */
export const bridgeFlag = "tidegate";

/** As adapters deliver it, unchecked. */
export interface ReceivedEmit {
  readonly packet: unknown;
  readonly options: unknown;
}

export interface CarriedEmit {
  readonly channel: string;
  readonly event: string;
  /** JSON text. */
  readonly data: string;
  readonly bytes: number;
  readonly isVolatile: boolean;
}

/** Why an emit to a carried room does not become a publication. */
export type EmitRefusal =
  "arguments" | "binary" | "event" | "except" | "malformed" | "too_deep" | "too_large" | "too_many_rooms";

export type EmitReading =
  | { readonly kind: "carried"; readonly emits: readonly CarriedEmit[] }
  /** This bridge has sent it itself, or it concerns no carried room. */
  | { readonly kind: "ignored" }
  | { readonly kind: "refused"; readonly reason: EmitRefusal };

const ignored = { kind: "ignored" } as const;
const packetTypes = new Set<unknown>([2, 5]);
/** Ids of sockets of an old server, and rooms whose names look like one. No client of Tidegate has such an id. */
const socketId = /^[A-Za-z0-9_-]{20}$/;
/** Of one emit, that are carried: each is a publication. */
const maxRooms = 100;

/** @param identity of the bridge that reads */
export function readEmit({ packet, options }: ReceivedEmit, rooms: RoomMap, identity: string): EmitReading {
  const { rooms: named, except, flags } = membersOf(options);
  if (!(named instanceof Set) || membersOf(flags)[bridgeFlag] === identity) return ignored;
  const channels = [...named].flatMap((room) => rooms.channelOf(nameOf(room)) ?? []);
  if (channels.length === 0) return ignored;
  if (channels.length > maxRooms) return refused("too_many_rooms");
  if ([...named].some((room) => typeof room !== "string")) return refused("malformed");
  const isSocket = (name: unknown): boolean => socketId.test(nameOf(name)) && !rooms.isRoom(nameOf(name));
  if (except instanceof Set && ![...except].every(isSocket)) return refused("except");
  const { type, data } = membersOf(packet);
  if (!packetTypes.has(type) || !Array.isArray(data) || data.length === 0) return refused("malformed");
  const [event, argument = null] = data as unknown[];
  if (typeof event !== "string" || !isApplicationEvent(event)) return refused("event");
  if (data.length > 2) return refused("arguments");
  if (hasBinary(argument)) return refused("binary");
  if (isTooDeep(argument)) return refused("too_deep");
  const text = textOf(argument);
  if (text === undefined) return refused("malformed");
  const bytes = Buffer.byteLength(text);
  if (bytes > maxPayloadBytes) return refused("too_large");
  const isVolatile = membersOf(flags)["volatile"] === true;
  return {
    kind: "carried",
    emits: channels.map((channel) => ({ channel, event, data: text, bytes, isVolatile })),
  };
}

function refused(reason: EmitRefusal): EmitReading {
  return { kind: "refused", reason };
}

function membersOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null ? (value as Readonly<Record<string, unknown>>) : {};
}

/** Of a room, or a socket. Empty where it is no text, nor a number: an object may not even have a text. */
function nameOf(value: unknown): string {
  return typeof value === "string" || typeof value === "number" ? String(value) : "";
}

/** Down to the depth that JSON may have. */
function hasBinary(value: unknown, depthLeft = maxJsonDepth): boolean {
  if (typeof value !== "object" || value === null) return false;
  if (value instanceof ArrayBuffer || ArrayBuffer.isView(value)) return true;
  return depthLeft > 0 && Object.values(value).some((member) => hasBinary(member, depthLeft - 1));
}

/** Undefined for what JSON cannot express. */
function textOf(value: unknown): string | undefined {
  try {
    return JSON.stringify(value);
  } catch (error) {
    if (error instanceof TypeError) return undefined;
    throw error;
  }
}
