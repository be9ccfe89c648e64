/**
 * JSON text to a value; undefined (which JSON has no text for) where it is not JSON. A number that becomes another one, such as
 * 9007199254740993 or 1e999, is an object that `JSON.stringify` writes as the number was written: where it is passed on it
 * stays what it was, and no schema takes it for a number.
 */
export function parseJson(text: string): unknown {
  try {
    return mayRound.test(text) ? json.parse(text, keepRounded) : json.parse(text);
  } catch {
    return undefined;
  }
}

/** Long numbers and long exponents, and hardly ever a string. */
const mayRound = /(?:^|[[:,\s])-?(?:\d{16}|\d+(?:\.\d+)?[eE][+-]?\d{3})/;

/** What the types of this library do not have yet. */
const json = JSON as unknown as {
  parse(text: string, reviver?: (name: string, value: unknown, context: { source?: string }) => unknown): unknown;
  rawJSON(text: string): object;
  isRawJSON(value: unknown): boolean;
};

function keepRounded(_name: string, value: unknown, { source = "" }: { source?: string }): unknown {
  return typeof value === "number" && isRounded(value, source) ? json.rawJSON(source) : value;
}

/** Fractions have as many digits as a double: that is what everybody reads them as. */
function isRounded(value: number, source: string): boolean {
  if (value === 0) return /^-?[0.]*[1-9]/.test(source);
  return (
    !Number.isFinite(value) || (Number.isInteger(value) && !Number.isSafeInteger(value) && String(value) !== source)
  );
}

/** Values nested deeper would overflow the stack of whatever walks them: ours, or that of a service. */
export const maxJsonDepth = 128;

export function isTooDeep(value: unknown, depthLeft = maxJsonDepth): boolean {
  if (typeof value !== "object" || value === null || json.isRawJSON(value)) return false;
  if (depthLeft === 0) return true;
  for (const item of Object.values(value)) if (isTooDeep(item, depthLeft - 1)) return true;
  return false;
}

/** Of one object. Data within its limit has fewer: a member takes seven bytes. */
export const maxJsonMembers = 10_000;

/** Of a JSON text: what parsing it, and walking what was parsed, costs. */
export interface JsonMeasure {
  /** Objects and arrays within each other, as {@link isTooDeep} counts them. */
  depth: number;
  /**
   * Brackets, commas and colons outside of strings. Each is a byte of the text without its white space, so that a text
   * of n bytes has at most n; what a parser builds grows with them.
   */
  structure: number;
  /** Members of the object that has most: looking through them costs more than through as many items of an array. */
  widest: number;
}

/** Measures a text before it is parsed: linear, builds nothing. A text that is not JSON is measured up to any parser's first error, at least. */
export function measureJson(text: string): JsonMeasure {
  let depth = 0;
  let deepest = 0;
  let structure = 0;
  let widest = 0;
  /** By depth, of the objects that are open; not of those that are too deep anyway. */
  const members: number[] = [];
  for (let at = 0; at < text.length; at++) {
    switch (text.charCodeAt(at)) {
      case quote:
        at = endOfString(text, at);
        break;
      case comma:
        structure++;
        break;
      case colon:
        structure++;
        if (depth > maxMeasuredDepth) break;
        widest = Math.max(widest, (members[depth] = (members[depth] ?? 0) + 1));
        break;
      case openBracket:
      case openBrace:
        structure++;
        deepest = Math.max(deepest, ++depth);
        if (depth <= maxMeasuredDepth) members[depth] = 0;
        break;
      case closeBracket:
      case closeBrace:
        structure++;
        depth = Math.max(0, depth - 1);
    }
  }
  return { depth: deepest, structure, widest };
}

const maxMeasuredDepth = 2 * maxJsonDepth;
const [quote, backslash, comma, colon] = [0x22, 0x5c, 0x2c, 0x3a];
const [openBracket, closeBracket, openBrace, closeBrace] = [0x5b, 0x5d, 0x7b, 0x7d];

/** @param from of its opening quote. @returns that of its closing one, or the end of the text. */
function endOfString(text: string, from: number): number {
  for (let at = from + 1; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === quote) return at;
    if (code === backslash) at++;
  }
  return text.length;
}

/**
 * The texts of an array's items, which are not parsed: each may be no JSON. Undefined where the text is no array.
 * @param max where there are more, one more than that is returned.
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
      case quote:
        at = endOfString(inner, at);
        break;
      case openBracket:
      case openBrace:
        depth++;
        break;
      case closeBracket:
      case closeBrace:
        depth--;
        break;
      case comma:
        if (depth > 0) break;
        items.push(inner.slice(from, at));
        from = at + 1;
    }
  }
  const last = inner.slice(from);
  if (items.length === 0 && last.trim() === "") return [];
  return items.length > max ? items : [...items, last];
}
