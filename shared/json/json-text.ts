/** Forwards JSON text as its author wrote it, so that numbers keep their digits and members their order. Pure. */

export interface JsonText {
  text: string;
  /** Length in UTF-8. */
  bytes: number;
}

/**
 * Removes white space between values, so that the text is one line. If it is still longer than `maxBytes`, strings are spelled as
 * in `JSON.stringify`: unnecessary escapes (`\u00e9`, `\/`) must not count against the limit of a client.
 * @param json valid JSON.
 */
export function compactJson(json: Uint8Array, maxBytes: number): JsonText {
  let compact = withoutSpace(json);
  if (compact.length > maxBytes) compact = withoutEscapes(compact);
  return {
    text: Buffer.from(compact.buffer, compact.byteOffset, compact.length).toString("utf8"),
    bytes: compact.length,
  };
}

const quote = 0x22;
const slash = 0x2f;
const backslash = 0x5c;
const lowerU = 0x75;
const space = 0x20;

function withoutSpace(json: Uint8Array): Uint8Array {
  let compact: Uint8Array | undefined;
  let to = 0;
  let inString = false;
  for (let at = 0; at < json.length; at++) {
    const byte = json[at] ?? 0;
    if (!inString && byte <= space) {
      // Copied at the first white space only: most texts have none.
      compact ??= new Uint8Array(json);
      continue;
    }
    if (compact) compact[to] = byte;
    to++;
    if (byte === quote) inString = !inString;
    else if (byte === backslash) {
      at++;
      if (compact) compact[to] = json[at] ?? 0;
      to++;
    }
  }
  return compact ? compact.subarray(0, to) : json;
}

/** In valid JSON a backslash is in a string and begins an escape. The result is never longer than the input. */
function withoutEscapes(json: Uint8Array): Uint8Array {
  const written = new Uint8Array(json.length);
  let to = 0;
  for (let at = 0; at < json.length;) {
    const byte = json[at] ?? 0;
    if (byte !== backslash) {
      written[to++] = byte;
      at++;
      continue;
    }
    const escaped = json[at + 1] ?? 0;
    if (escaped !== lowerU) {
      if (escaped !== slash) written[to++] = backslash;
      written[to++] = escaped;
      at += 2;
      continue;
    }
    let point = unitAt(json, at);
    let length = escapeLength;
    if (isHigh(point) && json[at + length] === backslash && json[at + length + 1] === lowerU) {
      const low = unitAt(json, at + length);
      if (isLow(low)) {
        point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
        length *= 2;
      }
    }
    const short = point < shortEscapes.length ? (shortEscapes[point] ?? 0) : 0;
    if (short !== 0) {
      written[to++] = backslash;
      written[to++] = short;
    } else if (point < space || isHigh(point) || isLow(point)) {
      // Control characters, and unpaired surrogates, which UTF-8 cannot encode.
      for (let i = 0; i < length; i++) written[to++] = json[at + i] ?? 0;
    } else to = writeUtf8(written, to, point);
    at += length;
  }
  return written.subarray(0, to);
}

/** By character: the letter of its short escape; 0 where it has none. */
const shortEscapes = new Uint8Array(backslash + 1);
const letters = { '"': '"', "\\": "\\", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t" };
for (const [character, letter] of Object.entries(letters)) shortEscapes[character.charCodeAt(0)] = letter.charCodeAt(0);

const escapeLength = 6;

/** The UTF-16 code unit of the escape at `at`. */
function unitAt(json: Uint8Array, at: number): number {
  let unit = 0;
  for (let digit = at + 2; digit < at + escapeLength; digit++) {
    const code = json[digit] ?? 0;
    // Digits are 0x30 to 0x39, letters 0x41 or 0x61 and the next five.
    unit = (unit << 4) + (code < 0x40 ? code - 0x30 : (code & 0x0f) + 9);
  }
  return unit;
}

function isHigh(unit: number): boolean {
  return unit >= 0xd800 && unit <= 0xdbff;
}

function isLow(unit: number): boolean {
  return unit >= 0xdc00 && unit <= 0xdfff;
}

/** @returns where it ends. */
function writeUtf8(bytes: Uint8Array, from: number, point: number): number {
  let to = from;
  if (point < 0x80) bytes[to++] = point;
  else {
    if (point < 0x800) bytes[to++] = 0xc0 | (point >> 6);
    else {
      if (point < 0x10000) bytes[to++] = 0xe0 | (point >> 12);
      else {
        bytes[to++] = 0xf0 | (point >> 18);
        bytes[to++] = 0x80 | ((point >> 12) & 0x3f);
      }
      bytes[to++] = 0x80 | ((point >> 6) & 0x3f);
    }
    bytes[to++] = 0x80 | (point & 0x3f);
  }
  return to;
}

/** The JSON text of an object with `members`, followed by `jsonMembers`, whose values are JSON text. */
export function objectText(members: object, jsonMembers: Readonly<Record<string, string>> = {}): string {
  const own = JSON.stringify(members).slice(1, -1);
  const others = Object.entries(jsonMembers).map(([name, json]) => `${JSON.stringify(name)}:${json}`);
  return `{${(own === "" ? others : [own, ...others]).join(",")}}`;
}
