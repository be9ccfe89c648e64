/** A websocket on a bare socket: it can stop reading, break the protocol, or send several packets in one write. */
import { randomBytes } from "node:crypto";
import { connect, type Socket } from "node:net";

export const opcodes = { continuation: 0x0, text: 0x1, binary: 0x2, close: 0x8, ping: 0x9, pong: 0xa } as const;

/** A mask that changes nothing: large payloads cost no time, and one frame can be sent again and again. */
export const zeroMask = Buffer.alloc(4);

export interface FrameOptions {
  /** False: more fragments of the message follow. */
  readonly fin?: boolean;
  /** Reserved bits, 0 to 7. */
  readonly rsv?: number;
  /** Four bytes, random by default; undefined: the frame is not masked, which no server accepts. */
  readonly mask?: Buffer | undefined;
  /** The length that the head announces, by default that of the payload. */
  readonly claims?: number;
  /** Bytes of the extended length, where more than the shortest form takes. */
  readonly lengthBytes?: 2 | 8;
}

/** A frame of a client (RFC 6455, 5.2), correct by default. */
export function encodeFrame(opcode: number, payload: Buffer, options: FrameOptions = {}): Buffer {
  const { fin = true, rsv = 0, claims = payload.length, lengthBytes = 0 } = options;
  const mask = "mask" in options ? options.mask : randomBytes(4);
  const extended = Math.max(lengthBytes, claims < 126 ? 0 : claims < 65_536 ? 2 : 8);
  const head = Buffer.alloc(2 + extended);
  head[0] = (fin ? 0x80 : 0) | (rsv << 4) | opcode;
  head[1] = (mask ? 0x80 : 0) | (extended === 0 ? claims : extended === 2 ? 126 : 127);
  if (extended === 2) head.writeUInt16BE(claims, 2);
  if (extended === 8) head.writeBigUInt64BE(BigInt(claims), 2);
  if (!mask) return Buffer.concat([head, payload]);
  const masked = mask === zeroMask ? payload : payload.map((byte, index) => byte ^ (mask[index % 4] ?? 0));
  return Buffer.concat([head, mask, masked]);
}

/** @param fin false: more fragments of the message follow. */
export function clientFrame(kind: keyof typeof opcodes, content: string | Buffer, fin = true): Buffer {
  return encodeFrame(opcodes[kind], Buffer.from(content), { fin });
}

export function textFrame(text: string): Buffer {
  return clientFrame("text", text);
}

/** The websocket's own ping, not Engine.IO's. At most 125 bytes. */
export function pingFrame(text: string): Buffer {
  return clientFrame("ping", text);
}

/** Announces `length` bytes of payload; the four bytes of the mask and the payload follow. */
export function frameHead(kind: keyof typeof opcodes, length: number): Buffer {
  return encodeFrame(opcodes[kind], Buffer.alloc(0), { claims: length, mask: zeroMask }).subarray(0, -zeroMask.length);
}

/** The HTTP request for a websocket of the engine. @param more appended to the query */
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
  /** The local address to connect from: on Linux any of 127.0.0.0/8 towards a loopback address. */
  readonly localAddress?: string;
  /** Destroys the socket. */
  readonly signal?: AbortSignal;
}

/** The connection ended before the engine opened it. */
export class NotOpenedError extends Error {
  /** What the server sent, such as the head of an HTTP answer; empty where it sent nothing. */
  readonly received: string;

  constructor(received: string) {
    super(`closed before it opened: ${received.split("\r\n")[0]}`);
    this.received = received;
  }
}

/**
 * Resolves once the engine has opened the connection; the caller destroys the socket.
 *
 * @throws NotOpenedError where the connection ends first: the server refuses the upgrade, or nothing listens
 */
export async function openRawWebsocket(url: URL, options: DialOptions = {}): Promise<Socket> {
  const socket = connect({ port: Number(url.port), host: url.hostname, noDelay: true, ...options });
  // The gateway resets the connection of a client that does not read: an end like any other.
  socket.on("error", () => socket.destroy());
  socket.write(upgradeRequest(url));
  let received = "";
  return new Promise((resolve, reject) => {
    const take = (chunk: Buffer): void => {
      received += chunk.toString("latin1");
      if (!received.includes("pingInterval")) return;
      socket.off("data", take);
      socket.off("close", fail);
      resolve(socket);
    };
    const fail = (): void => reject(new NotOpenedError(received));
    socket.on("data", take);
    socket.once("close", fail);
  });
}

export interface ServerFrame {
  readonly opcode: number;
  readonly payload: Buffer;
}

/** Cuts what a server sends into frames. Joins the chunks of a large frame once, when its last one is there. */
export class ServerFrames {
  #chunks: Buffer[] = [];
  #bytes = 0;
  /** No frame is complete below this many bytes. */
  #neededBytes = 0;

  /** @returns the payloads of the text frames that are complete; other frames are skipped. */
  push(chunk: Buffer): string[] {
    return this.frames(chunk).flatMap(({ opcode, payload }) => (opcode === opcodes.text ? [payload.toString()] : []));
  }

  /** @returns every frame that is complete. */
  frames(chunk: Buffer): ServerFrame[] {
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
    if (this.#bytes < this.#neededBytes) return [];
    const bytes = this.#chunks.length === 1 ? chunk : Buffer.concat(this.#chunks);
    const frames: ServerFrame[] = [];
    let at = 0;
    let end = frameEnd(bytes, at);
    while (end && end.at <= bytes.length) {
      frames.push({ opcode: (bytes[at] ?? 0) & 0x0f, payload: bytes.subarray(end.at - end.length, end.at) });
      at = end.at;
      end = frameEnd(bytes, at);
    }
    this.#chunks = at < bytes.length ? [bytes.subarray(at)] : [];
    this.#bytes = bytes.length - at;
    this.#neededBytes = end ? end.at - at : 0;
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

/** Resolves also for a reset. */
export async function ended(socket: Socket): Promise<void> {
  socket.on("error", () => socket.destroy());
  socket.resume();
  await new Promise<void>((resolve) => socket.once("close", () => resolve()));
}
