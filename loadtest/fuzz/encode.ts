/** Steps of a conversation as bytes. */
import { randomBytes } from "node:crypto";
import type { FrameStep, RequestStep } from "./input.ts";
import { type Live, render, renderText } from "./parts.ts";

const textOpcode = 1;
const pingOpcode = 9;
const chunkBytes = 8_192;

export function textFrame(payload: Buffer): Buffer {
  return frame({ opcode: textOpcode }, payload);
}

/** A ping whose pong brings the number back. */
export function markFrame(mark: number): Buffer {
  const payload = Buffer.alloc(4);
  payload.writeUInt32BE(mark);
  return frame({ opcode: pingOpcode }, payload);
}

/** RFC 6455, 5.2. Small ones are masked; the mask of large ones changes nothing, which saves time. */
export function frame(step: Omit<FrameStep, "payload">, payload: Buffer): Buffer {
  const { opcode, fin = true, rsv = 0, masked = true, claims = payload.length, lengthBytes } = step;
  const form = Math.max(lengthBytes ?? 0, claims < 126 ? 0 : claims < 65_536 ? 2 : 8);
  const head = Buffer.alloc(2 + form + (masked ? 4 : 0));
  head[0] = (fin ? 0x80 : 0) | (rsv << 4) | opcode;
  head[1] = (masked ? 0x80 : 0) | (form === 0 ? claims : form === 2 ? 126 : 127);
  if (form === 2) head.writeUInt16BE(claims, 2);
  if (form === 8) head.writeBigUInt64BE(BigInt(claims), 2);
  if (!masked || payload.length > 64) return Buffer.concat([head, payload]);
  const mask = randomBytes(4);
  mask.copy(head, 2 + form);
  return Buffer.concat([head, payload.map((byte, index) => byte ^ (mask[index % 4] ?? 0))]);
}

/** HTTP/1.1, as good as the step says. */
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
