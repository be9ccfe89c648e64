/**
 * Socket.IO packets (protocol 5) from text, in place of the library's decoder: bounds are checked before anything is parsed,
 * and binary attachments are never kept.
 */
import { Encoder, PacketType } from "socket.io-parser";
import { parseJson } from "../../shared/json/json.ts";
import { scanItems } from "../../shared/json/json-scan.ts";
import { passedOn } from "../../shared/json/json-text.ts";
import { maxPayloadBytes } from "../../shared/protocol/limits.ts";
import { socketIoReservedEvents } from "../../shared/protocol/grammar.ts";
import { maxAuthLength, oversizedAuth } from "../entrance/auth-bound.ts";
import type { ClientEvent } from "../requests/client-event.ts";

/** As the library has it. */
const maxAttachments = 10;
/** An ack id is sent back as a number. */
const maxAckIdDigits = 15;
/** There is one namespace, "/"; the name of another is sent back in a refusal. */
const maxNamespaceLength = 256;

/** Of an event beside its data: its name, and its options. */
const eventValues = 8;

export interface Packet {
  type: PacketType;
  nsp: string;
  id?: number;
  /** `auth`, of a CONNECT. */
  data?: object;
  /** Of an EVENT. */
  event?: PacketEvent;
}

/** An event before it is known whether its client wants an ack. */
export type PacketEvent = Omit<ClientEvent, "ackId">;

/** The part of an Emitter that Socket.IO uses of a decoder. Whatever {@link add} throws ends the connection. */
export class PacketDecoder {
  #onDecoded: ((packet: Packet) => void) | undefined;
  /** Attachments that were announced and have not arrived. */
  #attachments = 0;

  on(_event: "decoded", listener: (packet: Packet) => void): void {
    this.#onDecoded = listener;
  }

  removeListener(): void {
    this.#onDecoded = undefined;
  }

  destroy(): void {
    this.#attachments = 0;
  }

  /** @throws where it is no packet of the protocol. */
  add(data: unknown): void {
    if (typeof data === "string") {
      if (this.#attachments > 0) throw new Error("text in place of a binary attachment");
      const packet = this.#decode(data);
      this.#onDecoded?.(packet);
    } else if (this.#attachments > 0) this.#attachments--;
    else throw new Error("a binary attachment that was not announced");
  }

  #decode(text: string): Packet {
    let at = 1;
    const announces = text.startsWith(binaryEvent) || text.startsWith(binaryAck);
    if (announces) {
      const [head = "", count = ""] = /^.(\d{1,2})-/.exec(text.slice(0, 4)) ?? [];
      this.#attachments = Number(count);
      if (this.#attachments < 1 || this.#attachments > maxAttachments) throw new Error("bad number of attachments");
      at = head.length;
    }
    const type = packetTypes[text[0] ?? ""];
    if (type === undefined) throw new Error("unknown packet type");
    let nsp = "/";
    if (text[at] === "/") {
      const comma = text.indexOf(",", at);
      const end = comma === -1 ? text.length : comma;
      if (end - at > maxNamespaceLength) throw new Error("a namespace is too long");
      nsp = text.slice(at, end);
      at = end + 1;
    }
    const idEnd = endOfDigits(text, at);
    if (idEnd - at > maxAckIdDigits) throw new Error("an ack id is too long");
    const id = idEnd > at ? { id: Number(text.slice(at, idEnd)) } : {};
    const payload = readPayload(type, text, idEnd);
    if (announces && payload.event) payload.event.flaw = "binary";
    return { type, nsp, ...id, ...payload };
  }
}

const binaryEvent = "5";
const binaryAck = "6";
const packetTypes: Readonly<Record<string, PacketType>> = {
  "0": PacketType.CONNECT,
  "1": PacketType.DISCONNECT,
  "2": PacketType.EVENT,
  "3": PacketType.ACK,
  "4": PacketType.CONNECT_ERROR,
  [binaryEvent]: PacketType.EVENT,
  [binaryAck]: PacketType.ACK,
};

/** @throws where the payload is not what a packet of this type has. */
function readPayload(type: PacketType, text: string, at: number): Pick<Packet, "data" | "event"> {
  if (at >= text.length) {
    if (type === PacketType.EVENT) throw new Error("an event without a name");
    return {};
  }
  switch (type) {
    case PacketType.CONNECT: {
      if (text.length - at > maxAuthLength) return { data: oversizedAuth };
      const data = JSON.parse(text.slice(at)) as unknown;
      if (typeof data !== "object" || data === null || Array.isArray(data)) throw new Error("auth is not an object");
      return { data };
    }
    case PacketType.EVENT:
      return { event: readEvent(text.slice(at)) };
    // The gateway asks for no ack, and a client sends no payload with the others.
    case PacketType.ACK:
      return {};
    case PacketType.DISCONNECT:
    case PacketType.CONNECT_ERROR:
    case PacketType.BINARY_EVENT:
    case PacketType.BINARY_ACK:
      throw new Error("an unexpected payload");
  }
}

/** One more than any event may have tells that there are too many. */
const maxArguments = 3;

function readEvent(text: string): PacketEvent {
  const scan = scanItems(Buffer.from(text), 1 + maxArguments);
  if (scan.kind === "malformed") throw new Error("an event is not JSON");
  if (scan.kind === "too_deep") return { name: nameOf(text), args: [], flaw: "too_deep" };
  // Each value takes two bytes at least: it is over twice the limit of data, whatever it spells.
  if (scan.values > maxPayloadBytes + eventValues) throw new Error("too many values");
  const [first, ...others] = scan.items;
  const { text: literal } = passedOn(first ?? new Uint8Array(), maxPayloadBytes);
  return { name: readName(literal), args: others.map((argument) => passedOn(argument, maxPayloadBytes)) };
}

/** A number is a name as it was written: 1e3 and 1000 are two. */
function readName(literal: string): string {
  if (/^[-\d]/.test(literal)) return literal;
  const name = parseJson(literal);
  if (typeof name !== "string" || socketIoReservedEvents.includes(name)) throw new Error("an event without a name");
  return name;
}

/** Of an event that is nested too deep: it is read no further. */
function nameOf(text: string): string {
  const [, literal = ""] = /^\s*\[\s*("(?:[^"\\]|\\.){1,256}")/.exec(text.slice(0, 1_024)) ?? [];
  return readName(literal);
}

function endOfDigits(text: string, at: number): number {
  let end = at;
  for (let code = text.charCodeAt(end); code >= 48 && code <= 57; code = text.charCodeAt(end)) end++;
  return end;
}

/** For Socket.IO's option `parser`. */
export const packetParser = { Encoder, Decoder: PacketDecoder };
