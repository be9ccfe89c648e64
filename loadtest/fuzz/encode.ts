/** Encodes the steps of a conversation as bytes. */
import { randomBytes } from "node:crypto";
import { encodeFrame, opcodes, zeroMask } from "../../test/support/raw-websocket.ts";
import type { FrameStep, RequestStep } from "./input.ts";
import { type Live, render, renderText } from "./parts.ts";

const chunkBytes = 8_192;
/** Larger payloads get a mask that changes nothing, which saves time. */
const maxMaskedBytes = 64;

export function textFrame(payload: Buffer): Buffer {
  return frame({ opcode: opcodes.text }, payload);
}

/** A ping whose pong returns the number. */
export function markFrame(mark: number): Buffer {
  const payload = Buffer.alloc(4);
  payload.writeUInt32BE(mark);
  return frame({ opcode: opcodes.ping }, payload);
}

export function frame(step: Omit<FrameStep, "payload">, payload: Buffer): Buffer {
  const { opcode, masked = true, ...options } = step;
  const mask = payload.length > maxMaskedBytes ? zeroMask : randomBytes(4);
  return encodeFrame(opcode, payload, { ...options, mask: masked ? mask : undefined });
}

/** An HTTP/1.1 request with the framing that the step asks for. */
export function request(step: RequestStep, live: Live): Buffer {
  const { method, target, headers, body, framing } = step;
  const bytes = body && render(body, live);
  const lines = [`${method} ${renderText(target, live)} HTTP/1.1`];
  if (!headers.some(([name]) => name === "host")) lines.push("host: localhost");
  for (const [name, value] of headers) lines.push(`${name}: ${renderText(value, live)}`);
  if (framing === "chunked") lines.push("transfer-encoding: chunked");
  else if (typeof framing === "number") lines.push(`content-length: ${framing}`);
  else if (bytes && framing !== "none") lines.push(`content-length: ${bytes.length}`);
  const head = Buffer.from(`${lines.join("\r\n")}\r\n\r\n`);
  if (!bytes) return head;
  return Buffer.concat([head, ...(framing === "chunked" ? chunks(bytes) : [bytes])]);
}

function chunks(bytes: Buffer): Buffer[] {
  const pieces: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += chunkBytes) {
    const chunk = bytes.subarray(at, at + chunkBytes);
    pieces.push(Buffer.from(`${chunk.length.toString(16)}\r\n`), chunk, Buffer.from("\r\n"));
  }
  return [...pieces, Buffer.from("0\r\n\r\n")];
}
