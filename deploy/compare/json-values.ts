/** JSON as it is compared: whatever its members' order, its spacing and its escapes, but with every digit of its numbers. Pure. */
import { parsePointer } from "../../shared/json/json-pointer.ts";

/** Marks a number that a double may not hold. No JSON text of a publisher has this character. */
const exactNumber = "\u{10ffff}";
/** Significant digits that a double keeps. */
const keptDigits = 15;

/** @throws SyntaxError */
export function parseExact(text: string): unknown {
  // Few texts have such numbers, and a reviver is slow.
  if (!/[\d.]{16}/.test(text)) return JSON.parse(text) as unknown;
  return JSON.parse(text, (_name, value: unknown, context?: { source?: string }) =>
    typeof value === "number" && context?.source !== undefined && digitsOf(context.source) > keptDigits
      ? exactNumber + context.source
      : value,
  ) as unknown;
}

/** Significant ones. */
function digitsOf(number: string): number {
  return number
    .replace(/[eE].*$/, "")
    .replaceAll(/[-.]/g, "")
    .replace(/^0+/, "").length;
}

/** Equal values give equal text. */
export function canonicalText(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalText).join(",")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const members = Object.entries(value).toSorted(([one], [other]) => (one < other ? -1 : 1));
  return `{${members.map(([name, member]) => `${JSON.stringify(name)}:${canonicalText(member)}`).join(",")}}`;
}

/** @param pointer RFC 6901. @returns undefined where there is nothing */
export function valueAtPointer(value: unknown, pointer: string): unknown {
  let found: unknown = value;
  for (const name of parsePointer(pointer)) {
    if (typeof found !== "object" || found === null || !Object.hasOwn(found, name)) return undefined;
    found = (found as Record<string, unknown>)[name];
  }
  return found;
}

/** @returns undefined for what is no string, number or boolean */
export function scalarTextOf(value: unknown): string | undefined {
  if (typeof value === "string") return value.startsWith(exactNumber) ? value.slice(exactNumber.length) : value;
  return typeof value === "number" || typeof value === "boolean" ? String(value) : undefined;
}
