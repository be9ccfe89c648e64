/** Finds values in JSON text by JSON pointers (RFC 6901), without parsing what surrounds them. Pure. */
import { skipScanned } from "./json-members.ts";
import * as char from "./json-characters.ts";
import { skipName, skipSpace, skipString } from "./json-scan.ts";

/** The names of a pointer, unescaped. "" is the whole document. */
export type PointerPath = readonly string[];

/** @param pointer a valid one */
export function parsePointer(pointer: string): PointerPath {
  return pointer
    .split("/")
    .slice(1)
    .map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));
}

/**
 * @param json valid JSON in UTF-8
 * @returns the bytes of the value, as its author wrote them; of a repeated name the last counts, as in `JSON.parse`. Undefined
 * where there is none.
 */
export function valueAt(json: Uint8Array, path: PointerPath): Uint8Array | undefined {
  let value: Uint8Array | undefined = trimmed(json);
  for (const name of path) {
    if (value[0] === char.openBrace) value = memberOf(value, name);
    else value = value[0] === char.openBracket && isIndex(name) ? itemOf(value, Number(name)) : undefined;
    if (value === undefined) return undefined;
  }
  return value;
}

/** RFC 6901: no leading zeros. */
function isIndex(name: string): boolean {
  return /^(0|[1-9]\d{0,9})$/.test(name);
}

function memberOf(json: Uint8Array, name: string): Uint8Array | undefined {
  const nameBytes = Buffer.from(name);
  let found: Uint8Array | undefined;
  let at = skipSpace(json, 1);
  while (json[at] === char.quote) {
    const nameTo = skipString(json, at);
    const from = skipSpace(json, skipName(json, at));
    const to = skipScanned(json, from);
    if (isName(json, at + 1, nameTo - 1, nameBytes)) found = json.subarray(from, to);
    at = skipSpace(json, to);
    if (json[at] === char.comma) at = skipSpace(json, at + 1);
  }
  return found && trimmed(found);
}

/** @param from, to without the quotes */
function isName(json: Uint8Array, from: number, to: number, name: Uint8Array): boolean {
  const length = to - from;
  // The longest spelling of one byte is `\u00xx`.
  if (length < name.length || length > 6 * name.length) return false;
  if (length > name.length) {
    const written = json.subarray(from, to);
    return written.includes(char.backslash) && Buffer.compare(Buffer.from(unescaped(written)), name) === 0;
  }
  for (let at = 0; at < length; at++) if (json[from + at] !== name[at]) return false;
  return true;
}

function unescaped(written: Uint8Array): string {
  return JSON.parse(`"${Buffer.from(written).toString()}"`) as string;
}

function itemOf(json: Uint8Array, index: number): Uint8Array | undefined {
  let at = skipSpace(json, 1);
  // Before each item; the end of an empty array is no item.
  for (let position = 0; at < json.length - 1; position++) {
    const to = skipScanned(json, at);
    if (position === index) return trimmed(json.subarray(at, to));
    at = skipSpace(json, to);
    if (json[at] !== char.comma) return undefined;
    at = skipSpace(json, at + 1);
  }
  return undefined;
}

/** A scalar ends with the white space that follows it. */
function trimmed(json: Uint8Array): Uint8Array {
  const from = skipSpace(json, 0);
  let to = json.length;
  while (to > from && (json[to - 1] ?? 0) <= 0x20) to--;
  return from === 0 && to === json.length ? json : json.subarray(from, to);
}
