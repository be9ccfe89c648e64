/** Checks JSON without building a value, so that a text can be passed on as it is. */
import { isUtf8 } from "node:buffer";
import { maxJsonDepth } from "./json.ts";

export type JsonScan =
  /** `depth`: levels of arrays and objects. `values`: all of them, scalars and containers. */
  | { kind: "json"; depth: number; values: number }
  /** Not read beyond the level that is too deep. */
  | { kind: "too_deep" }
  | { kind: "malformed" };

/** By level: whether it is an object. Of the scan that runs: none waits for anything. */
const isObject = new Uint8Array(maxJsonDepth + 1);
/** Of the value that was scanned last. */
let scannedDepth = 0;
let scannedValues = 0;

/** In place of the end of a value. */
const malformed = -1;
const tooDeep = -2;

/**
 * Linear, without recursion, and nothing is allocated per value: a text of the worst shape takes a few ms per MiB, where
 * `JSON.parse` and the value it builds take several times that. Up to 128 levels it accepts exactly what `JSON.parse` accepts.
 * @param json bytes are taken for UTF-8: check them with `isUtf8` where they come from outside. @param from where it begins.
 */
export function scanJson(json: string | Uint8Array, from = 0): JsonScan {
  const bytes = typeof json === "string" ? Buffer.from(json) : json;
  const end = scanValue(bytes, skipSpace(bytes, from));
  if (end === tooDeep) return { kind: "too_deep" };
  if (end === malformed || skipSpace(bytes, end) !== bytes.length) return { kind: "malformed" };
  return { kind: "json", depth: scannedDepth, values: scannedValues };
}

/** @param from where a value begins. @returns where it ends, {@link malformed} or {@link tooDeep}. */
function scanValue(bytes: Uint8Array, from: number): number {
  let depth = 0;
  let deepest = 0;
  let values = 0;
  let at = from;
  for (;;) {
    at = skipSpace(bytes, at);
    values++;
    const first = bytes[at];
    if (first === openBrace || first === openBracket) {
      if (depth === maxJsonDepth) return tooDeep;
      depth++;
      if (depth > deepest) deepest = depth;
      isObject[depth] = first === openBrace ? 1 : 0;
      at = skipSpace(bytes, at + 1);
      // In ASCII a closing bracket or brace is its opening one plus two.
      if (bytes[at] === first + 2) {
        at++;
        depth--;
      } else {
        if (first === openBrace) at = skipName(bytes, at);
        if (at === malformed) return malformed;
        continue;
      }
    } else {
      at = skipScalar(bytes, at);
      if (at === malformed) return malformed;
    }
    // A value has ended: so may what it is in.
    for (;;) {
      if (depth === 0) {
        scannedDepth = deepest;
        scannedValues = values;
        return at;
      }
      at = skipSpace(bytes, at);
      const next = bytes[at];
      at++;
      if (next === comma) {
        if (isObject[depth] === 1) at = skipName(bytes, skipSpace(bytes, at));
        if (at === malformed) return malformed;
        break;
      }
      if (next !== (isObject[depth] === 1 ? closeBrace : closeBracket)) return malformed;
      depth--;
    }
  }
}

export type ItemsScan =
  /** `items`: the bytes of each. `values`: of all of them, those included that were left out. */
  | { kind: "items"; items: Uint8Array[]; values: number }
  /** An item is nested deeper than 128 levels. */
  | { kind: "too_deep" }
  | { kind: "malformed" };

/**
 * As {@link scanJson}, of an array, which is no level of its items.
 * @param maxItems more of them are scanned and left out.
 */
export function scanItems(json: Uint8Array, maxItems: number): ItemsScan {
  const items: Uint8Array[] = [];
  let values = 0;
  let at = skipSpace(json, 0);
  if (json[at] !== openBracket) return { kind: "malformed" };
  at = skipSpace(json, at + 1);
  if (json[at] === closeBracket) at++;
  else {
    for (let next: number | undefined = comma; next === comma; at++) {
      const from = skipSpace(json, at);
      const end = scanValue(json, from);
      if (end === tooDeep) return { kind: "too_deep" };
      if (end === malformed) return { kind: "malformed" };
      values += scannedValues;
      if (items.length < maxItems) items.push(json.subarray(from, end));
      at = skipSpace(json, end);
      next = json[at];
      if (next !== comma && next !== closeBracket) return { kind: "malformed" };
    }
  }
  return skipSpace(json, at) === json.length ? { kind: "items", items, values } : { kind: "malformed" };
}

export interface JsonMember {
  name: string;
  /** The bytes of its value. */
  json: Uint8Array;
  /** In it, itself included. */
  values: number;
}

export type MembersScan =
  /** In their order, those that are there twice included. */
  | { kind: "members"; members: JsonMember[] }
  | { kind: "too_many" }
  /** Other JSON. */
  | { kind: "no_object" }
  /** A value is nested deeper than 128 levels. */
  | { kind: "too_deep" }
  | { kind: "malformed" };

/** As {@link scanJson}, of an object, which is no level of its members. */
export function scanMembers(json: Uint8Array, maxMembers: number): MembersScan {
  const members: JsonMember[] = [];
  let at = skipSpace(json, 0);
  if (json[at] !== openBrace) {
    const { kind } = scanJson(json);
    return { kind: kind === "json" ? "no_object" : kind };
  }
  at = skipSpace(json, at + 1);
  if (json[at] === closeBrace) at++;
  else {
    for (let next: number | undefined = comma; next === comma; at++) {
      const nameFrom = skipSpace(json, at);
      const from = skipName(json, nameFrom);
      if (from === malformed) return { kind: "malformed" };
      if (members.length === maxMembers) return { kind: "too_many" };
      const valueFrom = skipSpace(json, from);
      const end = scanValue(json, valueFrom);
      if (end === tooDeep) return { kind: "too_deep" };
      if (end === malformed) return { kind: "malformed" };
      const literal = Buffer.from(json.subarray(nameFrom, skipString(json, nameFrom))).toString();
      const name = JSON.parse(literal) as string;
      members.push({ name, json: json.subarray(valueFrom, end), values: scannedValues });
      at = skipSpace(json, end);
      next = json[at];
      if (next !== comma && next !== closeBrace) return { kind: "malformed" };
    }
  }
  return skipSpace(json, at) === json.length ? { kind: "members", members } : { kind: "malformed" };
}

/** Bytes from outside can be passed on as JSON: valid UTF-8, and not nested too deep. */
export function isJson(bytes: Uint8Array): boolean {
  return isUtf8(bytes) && scanJson(bytes).kind === "json";
}

/**
 * Takes members out of a JSON object, without parsing the others.
 * @param json scanned before. @param names of the members to take, in ASCII.
 * @returns `taken`: the JSON text of each; of a name that is there twice the last counts, as in `JSON.parse`. `rest`: the
 * object without them; undefined where nothing is left. Undefined where `json` is no object.
 */
export function takeMembers(
  json: Buffer,
  names: readonly string[],
): { taken: Map<string, string>; rest: string | undefined } | undefined {
  let at = skipSpace(json, 0);
  if (json[at] !== openBrace) return undefined;
  const taken = new Map<string, string>();
  const kept: string[] = [];
  /** Members that are next to each other are kept in one piece. */
  let keptFrom = -1;
  let keptTo = -1;
  const keep = (): void => {
    if (keptFrom !== -1) kept.push(json.toString("utf8", keptFrom, keptTo));
    keptFrom = -1;
  };
  at = skipSpace(json, at + 1);
  while (json[at] === quote) {
    const nameEnd = skipString(json, at);
    const valueFrom = skipSpace(json, skipName(json, at));
    const valueTo = skipScanned(json, valueFrom);
    const name = oneOf(names, json, at, nameEnd);
    if (name === undefined) {
      if (keptFrom === -1) keptFrom = at;
      keptTo = valueTo;
    } else {
      keep();
      taken.set(name, json.toString("utf8", valueFrom, valueTo));
    }
    at = skipSpace(json, valueTo);
    if (json[at] === comma) at = skipSpace(json, at + 1);
  }
  keep();
  return { taken, rest: kept.length === 0 ? undefined : `{${kept.join(",")}}` };
}

/** Which of the names is written from its quote to its quote, if any. */
function oneOf(names: readonly string[], json: Buffer, from: number, to: number): string | undefined {
  let escaped = false;
  for (let at = from + 1; at < to - 1; at++) if (json[at] === backslash) escaped = true;
  // Names are ASCII: without an escape they have a byte for each character.
  const may = names.some(({ length }) => (escaped ? to - from - 2 <= 6 * length : to - from - 2 === length));
  if (!may) return undefined;
  const name = JSON.parse(json.toString("utf8", from, to)) as string;
  return names.includes(name) ? name : undefined;
}

/** The end of a value, with the white space behind a scalar. It has been scanned: brackets and quotes tell. */
function skipScanned(bytes: Uint8Array, from: number): number {
  let at = from;
  let depth = 0;
  for (;;) {
    const byte = bytes[at];
    if (byte === quote) {
      at = skipString(bytes, at);
      if (depth === 0) return at;
      continue;
    }
    if (byte === openBrace || byte === openBracket) depth++;
    else if (byte === closeBrace || byte === closeBracket) {
      // A scalar ends with what it is in.
      if (depth === 0) return at;
      depth--;
      if (depth === 0) return at + 1;
    } else if (byte === comma && depth === 0) return at;
    at++;
  }
}

const quote = 0x22;
const plus = 0x2b;
const comma = 0x2c;
const minus = 0x2d;
const dot = 0x2e;
const zero = 0x30;
const colon = 0x3a;
const openBracket = 0x5b;
const backslash = 0x5c;
const closeBracket = 0x5d;
const lowerE = 0x65;
const lowerU = 0x75;
const openBrace = 0x7b;
const closeBrace = 0x7d;
/** Added to a letter's code, gives the lower case. */
const lowerCase = 0x20;

/** Each skip takes the position where something begins and returns the one after it, or -1 where it is malformed. */

function skipSpace(bytes: Uint8Array, from: number): number {
  let at = from;
  for (;;) {
    const byte = bytes[at];
    if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) return at;
    at++;
  }
}

/** A member's name and its colon. */
function skipName(bytes: Uint8Array, from: number): number {
  if (bytes[from] !== quote) return -1;
  const end = skipString(bytes, from);
  if (end === -1) return -1;
  const at = skipSpace(bytes, end);
  return bytes[at] === colon ? at + 1 : -1;
}

function skipScalar(bytes: Uint8Array, from: number): number {
  switch (bytes[from] ?? 0) {
    case quote:
      return skipString(bytes, from);
    case 0x74:
      return skipWord(bytes, from, "true");
    case 0x66:
      return skipWord(bytes, from, "false");
    case 0x6e:
      return skipWord(bytes, from, "null");
    default:
      return skipNumber(bytes, from);
  }
}

function skipWord(bytes: Uint8Array, from: number, word: string): number {
  for (let i = 1; i < word.length; i++) if (bytes[from + i] !== word.charCodeAt(i)) return -1;
  return from + word.length;
}

function skipString(bytes: Uint8Array, from: number): number {
  let at = from + 1;
  for (;;) {
    const byte = bytes[at];
    at++;
    if (byte === quote) return at;
    if (byte === undefined || byte < 0x20) return -1;
    if (byte !== backslash) continue;
    const escaped = bytes[at];
    at++;
    if (escaped === lowerU) {
      for (const end = at + 4; at < end; at++) if (!isHexDigit(bytes[at])) return -1;
    } else if (!isEscapable(escaped ?? 0)) return -1;
  }
}

function skipNumber(bytes: Uint8Array, from: number): number {
  let at = bytes[from] === minus ? from + 1 : from;
  const end = skipDigits(bytes, at);
  // A number has digits, and no zero before others.
  if (end === at || (bytes[at] === zero && end > at + 1)) return -1;
  at = end;
  if (bytes[at] === dot) {
    at = skipDigits(bytes, at + 1);
    if (bytes[at - 1] === dot) return -1;
  }
  if (((bytes[at] ?? 0) | lowerCase) === lowerE) {
    at++;
    if (bytes[at] === plus || bytes[at] === minus) at++;
    const exponent = at;
    at = skipDigits(bytes, at);
    if (at === exponent) return -1;
  }
  return at;
}

function skipDigits(bytes: Uint8Array, from: number): number {
  let at = from;
  while (isDigit(bytes[at])) at++;
  return at;
}

function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= zero && byte <= 0x39;
}

function isHexDigit(byte: number | undefined): boolean {
  if (byte === undefined) return false;
  const lower = byte | lowerCase;
  return isDigit(byte) || (lower >= 0x61 && lower <= 0x66);
}

/** One of `"\/bfnrt`. */
function isEscapable(byte: number): boolean {
  switch (byte) {
    case quote:
    case backslash:
    case 0x2f:
    case 0x62:
    case 0x66:
    case 0x6e:
    case 0x72:
    case 0x74:
      return true;
    default:
      return false;
  }
}
