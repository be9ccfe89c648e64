/**
 * Reads a request that arrived in one piece and in the plainest form. What this accepts, Node's parser accepts with the same meaning; it refuses much that
 * Node accepts, and refusing costs nothing: Node's server gets the same bytes. Pure.
 */
import { type IncomingHttpHeaders, maxHeaderSize } from "node:http";

export interface PlainRequest {
  readonly method: "POST";
  /** Of the request line. */
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  /** A part of what arrived. Not empty. */
  readonly body: Buffer;
}

/** Providers send less than 2 KiB. Node takes 16 KiB, or what its flag says, and 2,000 headers. */
const maxHeadBytes = Math.min(8 * 1024, maxHeaderSize);
const maxHeaders = 64;
const maxNameBytes = 64;

const lineBegin = Buffer.from("POST /");
const lineEnd = Buffer.from(" HTTP/1.1\r\n");
const [space, colon, carriageReturn, lineFeed] = [0x20, 0x3a, 0x0d, 0x0a];
const isTargetByte = tableOf("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/?&=%-._~:;,@!$'()*+");
/** No underscore: `__proto__` is a name, too. */
const isNameByte = tableOf("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-");
/** Printable ASCII. */
const isValueByte = new Uint8Array(256).fill(1, 0x20, 0x7f);

/** They change what the request is, how long it is, or what Node makes of it: a request with one of them is not plain. */
const unfit: ReadonlySet<string> = new Set([
  "expect",
  "http2-settings",
  "proxy-connection",
  "set-cookie",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);

/** By the name as it was sent: providers send few. */
const namesInLowerCase = new Map<string, string>();
const maxNames = 1_000;

/** @returns undefined where the bytes are anything but exactly one plain request */
export function readPlainRequest(bytes: Buffer): PlainRequest | undefined {
  if (!isAt(bytes, 0, lineBegin)) return undefined;
  const urlFrom = lineBegin.length - 1;
  const urlTo = endOf(isTargetByte, bytes, urlFrom);
  if (!isAt(bytes, urlTo, lineEnd)) return undefined;
  const headers: IncomingHttpHeaders = {};
  let at = urlTo + lineEnd.length;
  for (let count = 0; bytes[at] !== carriageReturn; count++) {
    const nameTo = endOf(isNameByte, bytes, at);
    if (nameTo === at || nameTo > at + maxNameBytes || bytes[nameTo] !== colon || count === maxHeaders)
      return undefined;
    const name = lowerCase(text(bytes, at, nameTo));
    let valueFrom = nameTo + 1;
    while (bytes[valueFrom] === space) valueFrom++;
    const valueTo = endOf(isValueByte, bytes, valueFrom);
    // Node trims what follows a value.
    if (valueTo === valueFrom || bytes[valueTo - 1] === space) return undefined;
    if (bytes[valueTo] !== carriageReturn || bytes[valueTo + 1] !== lineFeed) return undefined;
    // Given twice, or inherited by every object.
    if (headers[name] !== undefined || unfit.has(name)) return undefined;
    // A copy: a slice of the whole head would keep all of it for as long as one value is kept.
    headers[name] = text(bytes, valueFrom, valueTo);
    at = valueTo + 2;
  }
  const bodyAt = at + 2;
  if (bytes[at + 1] !== lineFeed) return undefined;
  if (!isWhole(headers, bytes.length - bodyAt)) return undefined;
  return { method: "POST", url: text(bytes, urlFrom, urlTo), headers, body: bytes.subarray(bodyAt) };
}

/** With a host, and a body as long as it says, on a connection that stays open. */
function isWhole({ host, connection, "content-length": length }: IncomingHttpHeaders, bodyBytes: number): boolean {
  if (host === undefined || bodyBytes === 0 || length !== String(bodyBytes)) return false;
  return connection === undefined || connection.toLowerCase() === "keep-alive";
}

function lowerCase(name: string): string {
  const known = namesInLowerCase.get(name);
  if (known !== undefined) return known;
  if (namesInLowerCase.size >= maxNames) namesInLowerCase.clear();
  const lower = name.toLowerCase();
  namesInLowerCase.set(name, lower);
  return lower;
}

function text(bytes: Buffer, from: number, to: number): string {
  return bytes.toString("latin1", from, to);
}

function isAt(bytes: Buffer, from: number, expected: Buffer): boolean {
  for (let at = 0; at < expected.length; at++) if (bytes[from + at] !== expected[at]) return false;
  return true;
}

/** @returns where the run of such bytes ends, or as much of a head as is read. */
function endOf(table: Uint8Array, bytes: Buffer, from: number): number {
  const end = Math.min(bytes.length, maxHeadBytes);
  let at = from;
  while (at < end && table[bytes[at] ?? 0] === 1) at++;
  return at;
}

function tableOf(characters: string): Uint8Array {
  const table = new Uint8Array(256);
  for (const byte of Buffer.from(characters)) table[byte] = 1;
  return table;
}
