import * as char from "./json-characters.ts";
import { maxJsonDepth } from "./json-scan.ts";

/**
 * Parses JSON text; undefined where it is not JSON. A number that a double cannot represent, such as 9007199254740993 or 1e999,
 * becomes an object that `JSON.stringify` writes as the original digits. So it can be passed on unchanged, and no schema
 * accepts it as a number.
 */
export function parseJson(text: string): unknown {
  try {
    return mayRound.test(text) ? json.parse(text, keepRounded) : json.parse(text);
  } catch {
    return undefined;
  }
}

/** Matches long numbers and long exponents, rarely a string. */
const mayRound = /(?:^|[[:,\s])-?(?:\d{16}|\d+(?:\.\d+)?[eE][+-]?\d{3})/;

/** Members that the TypeScript library does not declare yet. */
const json = JSON as unknown as {
  parse(text: string, reviver?: (name: string, value: unknown, context: { source?: string }) => unknown): unknown;
  rawJSON(text: string): object;
  isRawJSON(value: unknown): boolean;
};

function keepRounded(_name: string, value: unknown, { source = "" }: { source?: string }): unknown {
  return typeof value === "number" && isRounded(value, source) ? json.rawJSON(source) : value;
}

/** Fractions are never kept: every reader takes them as doubles. */
function isRounded(value: number, source: string): boolean {
  if (value === 0) return /^-?[0.]*[1-9]/.test(source);
  return (
    !Number.isFinite(value) || (Number.isInteger(value) && !Number.isSafeInteger(value) && String(value) !== source)
  );
}

export function isTooDeep(value: unknown, depthLeft = maxJsonDepth): boolean {
  if (typeof value !== "object" || value === null || json.isRawJSON(value)) return false;
  if (depthLeft === 0) return true;
  for (const item of Object.values(value)) if (isTooDeep(item, depthLeft - 1)) return true;
  return false;
}

/** Of one object. Data within the payload limit has fewer: a member takes at least seven bytes. */
export const maxJsonMembers = 10_000;

/** @param from position of the opening quote. @returns the position of the closing quote, or the end of the text. */
function endOfString(text: string, from: number): number {
  for (let at = from + 1; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === char.quote) return at;
    if (code === char.backslash) at++;
  }
  return text.length;
}

/**
 * Splits an array into the texts of its items without checking those: each may be malformed. Undefined where the text is not
 * an array.
 * @param max of an array with more items only the first `max + 1` are returned.
 */
export function splitJsonArray(text: string, max: number): string[] | undefined {
  const array = text.trim();
  if (array.length < 2 || !array.startsWith("[") || !array.endsWith("]")) return undefined;
  const inner = array.slice(1, -1);
  const items: string[] = [];
  let depth = 0;
  let from = 0;
  for (let at = 0; at < inner.length && items.length <= max; at++) {
    switch (inner.charCodeAt(at)) {
      case char.quote:
        at = endOfString(inner, at);
        break;
      case char.openBracket:
      case char.openBrace:
        depth++;
        break;
      case char.closeBracket:
      case char.closeBrace:
        depth--;
        break;
      case char.comma:
        if (depth > 0) break;
        items.push(inner.slice(from, at));
        from = at + 1;
    }
  }
  const last = inner.slice(from);
  if (items.length === 0 && last.trim() === "") return [];
  return items.length > max ? items : [...items, last];
}

/** The members of an object; none of any other value. */
export function membersOf(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}
