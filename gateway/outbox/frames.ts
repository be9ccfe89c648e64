/** Messages to clients as Socket.IO packets, encoded once for all connections that get them. */
import type { Ephemeral, Publication } from "../../shared/channels/contract.ts";
import type { CallOutcome } from "../../shared/services/answers.ts";
import { reservedEventPrefix } from "../../shared/protocol/grammar.ts";
import type { QueuedAck } from "../../shared/protocol/wire.ts";

/** One message, ready for any connection. */
export interface Frame {
  /** The Socket.IO packet as text. */
  readonly packet: string;
  /** UTF-8 bytes of the packet. */
  readonly bytes: number;
  /** For the engine: the packet as a complete websocket frame, shared between connections. */
  readonly options: { compress: false; wsPreEncodedFrame?: readonly Buffer[] };
  /** In a long queue a newer frame with this key replaces the older one. */
  readonly conflationKey: string | undefined;
}

/** For many connections: the websocket frame is built here, once. */
function sharedFrame(packet: string, conflationKey?: string): Frame {
  const frame = websocketTextFrame(`${engineMessage}${packet}`);
  return { packet, bytes: frame.length, options: { compress: false, wsPreEncodedFrame: [frame] }, conflationKey };
}

/** For one connection. */
export function singleFrame(packet: string): Frame {
  return { packet, bytes: Buffer.byteLength(packet), options: { compress: false }, conflationKey: undefined };
}

const engineMessage = "4";
const eventPacket = "2";
const ackPacket = "3";

/**
 * The data goes into the packet as it is stored.
 * @param latest the newest publication of an event replaces older ones in a long queue.
 */
export function publicationFrame(channel: string, { offset, prev, event, data }: Publication, latest: boolean): Frame {
  const jump = prev === offset - 1 ? "" : `,"prev":${prev}`;
  return sharedFrame(
    `${eventPacket}[${JSON.stringify(event)},${data},{"channel":${JSON.stringify(channel)},"offset":${offset}${jump}}]`,
    latest ? `${channel} ${event}` : undefined,
  );
}

/** Its conflation key differs from that of publications: an ephemeral event never replaces one. */
export function ephemeralFrame(channel: string, { event, data }: Ephemeral, latest: boolean): Frame {
  // Events of the gateway are never conflated, and carry their channel in the data.
  if (event.startsWith(reservedEventPrefix)) return sharedFrame(`${eventPacket}[${JSON.stringify(event)},${data}]`);
  return sharedFrame(
    `${eventPacket}[${JSON.stringify(event)},${data},{"channel":${JSON.stringify(channel)}}]`,
    latest ? `${channel} ${event} ephemeral` : undefined,
  );
}

/** A message to every session of a user. `data` is JSON text. */
export function userFrame(event: string, data: string): Frame {
  return sharedFrame(`${eventPacket}[${JSON.stringify(event)},${data},{"user":true}]`);
}

/** An event of the gateway. */
export function eventFrame(event: string, payload: object): Frame {
  return singleFrame(`${eventPacket}${JSON.stringify([event, payload])}`);
}

/** An event of the gateway to many connections. */
export function noticeFrame(event: string, payload: object): Frame {
  return sharedFrame(`${eventPacket}${JSON.stringify([event, payload])}`);
}

export function ackFrame(ackId: number, payload: object): Frame {
  return singleFrame(`${ackPacket}${ackId}[${JSON.stringify(payload)}]`);
}

/** @param payload JSON text */
export function ackFrameOfText(ackId: number, payload: string): Frame {
  return singleFrame(`${ackPacket}${ackId}[${payload}]`);
}

/** The ack of an event that is queued. */
export function queuedAckFrame(ackId: number, { queued, id }: QueuedAck): Frame {
  return ackFrameOfText(ackId, `{"ok":true,"queued":${queued},"id":${JSON.stringify(id)}}`);
}

/** The ack of a call. The JSON text of its service goes in as it is. */
export function callAckFrame(ackId: number, outcome: CallOutcome): Frame {
  if (outcome.ok) return ackFrameOfText(ackId, `{"ok":true,"data":${outcome.data}}`);
  const { error, details } = outcome;
  if (details === undefined) return ackFrame(ackId, { ok: false, error });
  return ackFrameOfText(ackId, `{"ok":false,"error":${JSON.stringify(error).slice(0, -1)},"details":${details}}}`);
}

/** An unfragmented, unmasked text frame (RFC 6455, 5.2). */
function websocketTextFrame(text: string): Buffer {
  const length = Buffer.byteLength(text);
  const headLength = length < 126 ? 2 : length < 65_536 ? 4 : 10;
  const frame = Buffer.allocUnsafe(headLength + length);
  frame[0] = 0x81;
  if (headLength === 2) frame[1] = length;
  else if (headLength === 4) {
    frame[1] = 126;
    frame.writeUInt16BE(length, 2);
  } else {
    frame[1] = 127;
    frame.writeBigUInt64BE(BigInt(length), 2);
  }
  frame.write(text, headLength);
  return frame;
}
