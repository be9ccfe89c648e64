/** A websocket by hand, for what no client library does: stop reading, or send several packets in one breath. */
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect, type Socket } from "node:net";

const textOpcode = 0x1;
const pingOpcode = 0x9;

/** A masked, unfragmented text frame of less than 64 KiB (RFC 6455, 5.2). */
export function textFrame(text: string): Buffer {
  return maskedFrame(textOpcode, text);
}

/** The websocket's own ping, not Engine.IO's. At most 125 bytes. */
export function pingFrame(text: string): Buffer {
  return maskedFrame(pingOpcode, text);
}

function maskedFrame(opcode: number, text: string): Buffer {
  const payload = Buffer.from(text);
  const mask = randomBytes(4);
  const { length } = payload;
  const head = length < 126 ? [0x80 | opcode, 0x80 | length] : [0x80 | opcode, 0xfe, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from(head), mask, payload.map((byte, i) => byte ^ (mask[i % 4] ?? 0))]);
}

/** The HTTP request that asks for a websocket of the engine. @param more of the query */
export function upgradeRequest(url: URL, more = ""): string {
  const head = [
    `GET /socket.io/?EIO=4&transport=websocket${more} HTTP/1.1`,
    `Host: ${url.host}`,
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    `Sec-WebSocket-Key: ${randomBytes(16).toString("base64")}`,
  ];
  return `${head.join("\r\n")}\r\n\r\n`;
}

/**
 * Resolves once the engine has opened; the caller ends it.
 *
 * @throws where the connection ends before: the upgrade was refused, or nobody is there
 */
export async function openRawWebsocket(url: URL): Promise<Socket> {
  const socket = connect(Number(url.port), url.hostname);
  // The gateway ends who does not read with a reset: an end like any other.
  socket.on("error", () => socket.destroy());
  socket.write(upgradeRequest(url));
  let seen = "";
  const opened = (async () => {
    while (!seen.includes("pingInterval")) seen += String((await once(socket, "data"))[0]);
  })();
  const ended = once(socket, "close").then(() => {
    throw new Error(`closed before it opened: ${seen.split("\r\n")[0]}`);
  });
  await Promise.race([opened, ended]);
  ended.catch(() => undefined);
  return socket;
}

/** Cuts what a server sends into its text frames; others are left out. */
export class ServerFrames {
  #rest: Buffer = Buffer.alloc(0);

  push(chunk: Buffer): string[] {
    const bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    const texts: string[] = [];
    let at = 0;
    for (;;) {
      const end = frameEnd(bytes, at);
      if (end === undefined || end.at > bytes.length) break;
      if (((bytes[at] ?? 0) & 0x0f) === textOpcode) texts.push(bytes.toString("utf8", end.at - end.length, end.at));
      at = end.at;
    }
    this.#rest = bytes.subarray(at);
    return texts;
  }
}

/** Where the frame at `at` ends, and the length of its payload; undefined where its head is not complete. */
function frameEnd(bytes: Buffer, at: number): { at: number; length: number } | undefined {
  const short = (bytes[at + 1] ?? 0) & 0x7f;
  const headLength = short < 126 ? 2 : short === 126 ? 4 : 10;
  if (bytes.length < at + headLength) return undefined;
  const length =
    short < 126 ? short : short === 126 ? bytes.readUInt16BE(at + 2) : Number(bytes.readBigUInt64BE(at + 2));
  return { at: at + headLength + length, length };
}
