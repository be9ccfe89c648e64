/**
 * Decodes Socket.IO packets (protocol 5), in place of the library's decoder: checks bounds before it parses anything, and drops
 * binary attachments.
 */
import { Encoder, PacketType } from "socket.io-parser";
import { parseJson } from "../../shared/json/json.ts";
import { scanItems } from "../../shared/json/json-members.ts";
import { compactJson } from "../../shared/json/json-text.ts";
import { maxPayloadBytes } from "../../shared/protocol/limits.ts";
import { socketIoReservedEvents } from "../../shared/protocol/grammar.ts";
import { maxAuthBytes, oversizedAuth } from "../entrance/auth-bound.ts";
import type { ClientEvent } from "../requests/client-event.ts";

/** The library's own bound. */
const maxAttachments = 10;
/** An ack id is sent back as a number: 15 digits are exact. */
const maxAckIdDigits = 15;
/** The only namespace is "/"; a refusal quotes the name of any other. */
const maxNamespaceLength = 256;

/** JSON values of an event besides its data: its name and options. */
const eventValues = 8;

export interface Packet {
  type: PacketType;
  nsp: string;
  id?: number;
  /** The `auth` of a CONNECT. */
  data?: object;
  /** Of an EVENT. */
  event?: PacketEvent;
}

/** The ack id is a part of the packet. */
export type PacketEvent = Omit<ClientEvent, "ackId">;

/** Has the members of an Emitter that Socket.IO uses. An error that {@link add} throws ends the connection. */
export class PacketDecoder {
  #onDecoded: ((packet: Packet) => void) | undefined;
  /** Announced attachments that have not arrived. */
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

  /** @throws where the text is no packet of the protocol. */
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

/** @throws where the payload does not fit the type. */
function readPayload(type: PacketType, text: string, at: number): Pick<Packet, "data" | "event"> {
  if (at >= text.length) {
    if (type === PacketType.EVENT) throw new Error("an event without a name");
    return {};
  }
  switch (type) {
    case PacketType.CONNECT: {
      const auth = text.slice(at);
      if (Buffer.byteLength(auth) > maxAuthBytes) return { data: oversizedAuth };
      const data = JSON.parse(auth) as unknown;
      if (typeof data !== "object" || data === null || Array.isArray(data)) throw new Error("auth is not an object");
      return { data };
    }
    case PacketType.EVENT:
      return { event: readEvent(text.slice(at)) };
    // The gateway asks for no acks; packets of the other types carry no payload.
    case PacketType.ACK:
      return {};
    case PacketType.DISCONNECT:
    case PacketType.CONNECT_ERROR:
    case PacketType.BINARY_EVENT:
    case PacketType.BINARY_ACK:
      throw new Error("an unexpected payload");
  }
}

/** One more than an event may have: enough to see that there are too many. */
const maxArguments = 3;

function readEvent(text: string): PacketEvent {
  const scan = scanItems(Buffer.from(text), 1 + maxArguments);
  if (scan.kind === "malformed") throw new Error("an event is not JSON");
  const [first, ...others] = scan.items;
  if (scan.kind === "too_deep") return { name: readName(first), args: [], flaw: "too_deep" };
  // Each value takes two bytes at least: so many exceed the bound on data twice over.
  if (scan.values > maxPayloadBytes + eventValues) throw new Error("too many values");
  return { name: readName(first), args: others.map((argument) => compactJson(argument, maxPayloadBytes)) };
}

/** A number is a name as the client wrote it: 1e3 and 1000 are two names. */
function readName(json: Uint8Array = new Uint8Array()): string {
  const { text: literal } = compactJson(json, maxPayloadBytes);
  if (/^[-\d]/.test(literal)) return literal;
  const name = parseJson(literal);
  if (typeof name !== "string" || socketIoReservedEvents.includes(name)) throw new Error("an event without a name");
  return name;
}

function endOfDigits(text: string, at: number): number {
  let end = at;
  for (let code = text.charCodeAt(end); code >= 48 && code <= 57; code = text.charCodeAt(end)) end++;
  return end;
}

/** For Socket.IO's option `parser`. */
export const packetParser = { Encoder, Decoder: PacketDecoder };
