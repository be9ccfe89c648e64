/** Splits JSON arrays and objects into the texts of their items and members, without parsing those. */
import * as char from "./json-characters.ts";
import { malformed, scanJson, scanned, scanValue, skipName, skipSpace, skipString, tooDeep } from "./json-scan.ts";

export type ItemsScan =
  /** `items`: the bytes of each. `values`: in all items, including those that were left out. */
  | { kind: "items"; items: Uint8Array[]; values: number }
  /** An item is nested deeper than 128 levels; `items`: those before it. */
  | { kind: "too_deep"; items: Uint8Array[] }
  | { kind: "malformed" };

/**
 * Scans an array as {@link scanJson} does; the array itself does not count as a level.
 * @param maxItems further items are scanned and left out.
 */
export function scanItems(json: Uint8Array, maxItems: number): ItemsScan {
  const items: Uint8Array[] = [];
  let values = 0;
  let at = skipSpace(json, 0);
  if (json[at] !== char.openBracket) return { kind: "malformed" };
  at = skipSpace(json, at + 1);
  if (json[at] === char.closeBracket) at++;
  else {
    for (let next: number | undefined = char.comma; next === char.comma; at++) {
      const from = skipSpace(json, at);
      const end = scanValue(json, from);
      if (end === tooDeep) return { kind: "too_deep", items };
      if (end === malformed) return { kind: "malformed" };
      values += scanned.values;
      if (items.length < maxItems) items.push(json.subarray(from, end));
      at = skipSpace(json, end);
      next = json[at];
      if (next !== char.comma && next !== char.closeBracket) return { kind: "malformed" };
    }
  }
  return skipSpace(json, at) === json.length ? { kind: "items", items, values } : { kind: "malformed" };
}

export interface JsonMember {
  name: string;
  /** The bytes of its value. */
  json: Uint8Array;
  /** Values in it, including itself. */
  values: number;
}

export type MembersScan =
  /** In order; a repeated name appears again. */
  | { kind: "members"; members: JsonMember[] }
  | { kind: "too_many" }
  /** JSON of another type. */
  | { kind: "no_object" }
  /** A value is nested deeper than 128 levels. */
  | { kind: "too_deep" }
  /** @see JsonScan.errorAt */
  | { kind: "malformed"; errorAt: number };

/** Scans an object as {@link scanJson} does; the object itself does not count as a level. */
export function scanMembers(json: Uint8Array, maxMembers: number): MembersScan {
  const members: JsonMember[] = [];
  let at = skipSpace(json, 0);
  if (json[at] !== char.openBrace) {
    const { kind, errorAt } = scanJson(json);
    if (kind === "malformed") return { kind, errorAt };
    return { kind: kind === "json" ? "no_object" : kind };
  }
  at = skipSpace(json, at + 1);
  if (json[at] === char.closeBrace) at++;
  else {
    for (let next: number | undefined = char.comma; next === char.comma; at++) {
      const nameFrom = skipSpace(json, at);
      const from = skipName(json, nameFrom);
      if (from === malformed) return { kind: "malformed", errorAt: nameFrom };
      if (members.length === maxMembers) return { kind: "too_many" };
      const valueFrom = skipSpace(json, from);
      const end = scanValue(json, valueFrom);
      if (end === tooDeep) return { kind: "too_deep" };
      if (end === malformed) return { kind: "malformed", errorAt: scanned.errorAt };
      const literal = Buffer.from(json.subarray(nameFrom, skipString(json, nameFrom))).toString();
      const name = JSON.parse(literal) as string;
      members.push({ name, json: json.subarray(valueFrom, end), values: scanned.values });
      at = skipSpace(json, end);
      next = json[at];
      if (next !== char.comma && next !== char.closeBrace) return { kind: "malformed", errorAt: at };
    }
  }
  const rest = skipSpace(json, at);
  return rest === json.length ? { kind: "members", members } : { kind: "malformed", errorAt: rest };
}

/**
 * Takes members out of a JSON object, without parsing the others.
 * @param json valid JSON. @param names of the members to take, in ASCII.
 * @returns `taken`: the JSON text of each; of a repeated name the last counts, as in `JSON.parse`. `rest`: the object without
 * them; undefined where it would be empty. Undefined where `json` is not an object.
 */
export function takeMembers(
  json: Buffer,
  names: readonly string[],
): { taken: Map<string, string>; rest: string | undefined } | undefined {
  let at = skipSpace(json, 0);
  if (json[at] !== char.openBrace) return undefined;
  const taken = new Map<string, string>();
  const kept: string[] = [];
  /** Adjacent members are copied together. */
  let keptFrom = -1;
  let keptTo = -1;
  const keep = (): void => {
    if (keptFrom !== -1) kept.push(json.toString("utf8", keptFrom, keptTo));
    keptFrom = -1;
  };
  at = skipSpace(json, at + 1);
  while (json[at] === char.quote) {
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
    if (json[at] === char.comma) at = skipSpace(json, at + 1);
  }
  keep();
  return { taken, rest: kept.length === 0 ? undefined : `{${kept.join(",")}}` };
}

/** @param from, to quotes included. @returns the name written there, if it is one of `names`. */
function oneOf(names: readonly string[], json: Buffer, from: number, to: number): string | undefined {
  let escaped = false;
  for (let at = from + 1; at < to - 1; at++) if (json[at] === char.backslash) escaped = true;
  // Names are ASCII: without escapes each character is one byte.
  const isPossible = names.some(({ length }) => (escaped ? to - from - 2 <= 6 * length : to - from - 2 === length));
  if (!isPossible) return undefined;
  const name = JSON.parse(json.toString("utf8", from, to)) as string;
  return names.includes(name) ? name : undefined;
}

/** @returns the end of a value, including white space after a scalar. Valid JSON: only brackets, quotes and commas matter. */
export function skipScanned(bytes: Uint8Array, from: number): number {
  let at = from;
  let depth = 0;
  for (;;) {
    const byte = bytes[at];
    if (byte === char.quote) {
      at = skipString(bytes, at);
      if (depth === 0) return at;
      continue;
    }
    if (byte === char.openBrace || byte === char.openBracket) depth++;
    else if (byte === char.closeBrace || byte === char.closeBracket) {
      // The end of the container also ends a scalar in it.
      if (depth === 0) return at;
      depth--;
      if (depth === 0) return at + 1;
    } else if (byte === char.comma && depth === 0) return at;
    at++;
  }
}
