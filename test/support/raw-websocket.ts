/** A websocket by hand, for what no client library does: stop reading, or send several packets in one write. */
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect, type Socket } from "node:net";

const opcodes = { continuation: 0x0, text: 0x1, binary: 0x2, close: 0x8, ping: 0x9, pong: 0xa } as const;
const maskBit = 0x80;

export interface ServerFrame {
  readonly opcode: number;
  readonly payload: Buffer;
}

/** A masked, unfragmented text frame (RFC 6455, 5.2). */
export function textFrame(text: string): Buffer {
  return clientFrame("text", text);
}

/** The websocket's own ping, not Engine.IO's. At most 125 bytes. */
export function pingFrame(text: string): Buffer {
  return clientFrame("ping", text);
}

/** @param fin false: more of the message follows. */
export function clientFrame(kind: keyof typeof opcodes, content: string | Buffer, fin = true): Buffer {
  const payload = Buffer.from(content);
  const mask = randomBytes(4);
  const masked = payload.map((byte, i) => byte ^ (mask[i % 4] ?? 0));
  return Buffer.concat([frameHead(kind, payload.length, fin), mask, masked]);
}

/** Announces `length` bytes of payload; the mask and the payload follow. */
export function frameHead(kind: keyof typeof opcodes, length: number, fin = true): Buffer {
  return Buffer.from([(fin ? 0x80 : 0) | opcodes[kind], ...lengthBytes(length)]);
}

function lengthBytes(length: number): number[] {
  if (length < 126) return [maskBit | length];
  if (length < 65_536) return [maskBit | 126, length >> 8, length & 0xff];
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(length));
  return [maskBit | 127, ...bytes];
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

export interface DialOptions {
  /** The local address: on Linux any of 127.0.0.0/8 towards a loopback address. */
  readonly localAddress?: string;
  /** Destroys the socket. */
  readonly signal?: AbortSignal;
}

/**
 * Resolves once the engine has opened; the caller ends it.
 *
 * @throws where the connection ends before: the upgrade was refused, or no server listens
 */
export async function openRawWebsocket(url: URL, options: DialOptions = {}): Promise<Socket> {
  const socket = connect({ port: Number(url.port), host: url.hostname, ...options });
  // The gateway resets a client that does not read; tests see a closed connection.
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

/** Cuts what a server sends into frames. */
export class ServerFrames {
  #rest: Buffer = Buffer.alloc(0);

  /** @returns the text frames that are complete; others are left out. */
  push(chunk: Buffer): string[] {
    return this.frames(chunk).flatMap(({ opcode, payload }) => (opcode === opcodes.text ? [payload.toString()] : []));
  }

  /** @returns all frames that are complete. */
  frames(chunk: Buffer): ServerFrame[] {
    const bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    const frames: ServerFrame[] = [];
    let at = 0;
    for (;;) {
      const end = frameEnd(bytes, at);
      if (end === undefined || end.at > bytes.length) break;
      frames.push({ opcode: (bytes[at] ?? 0) & 0x0f, payload: bytes.subarray(end.at - end.length, end.at) });
      at = end.at;
    }
    this.#rest = bytes.subarray(at);
    return frames;
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
