/** JSON as it is compared: whatever its members' order, its spacing and its escapes, but with every digit of its numbers. Pure. */
import { parsePointer } from "../../shared/json/json-pointer.ts";

/** A number that a double may not hold: `JSON.stringify` writes it as it was read. */
interface ExactNumber {
  readonly rawJSON: string;
}

/** Members that the TypeScript library does not declare yet. */
const json = JSON as unknown as {
  parse(text: string, reviver: (name: string, value: unknown, context: { source?: string }) => unknown): unknown;
  rawJSON(text: string): ExactNumber;
  isRawJSON(value: unknown): value is ExactNumber;
};

/** Significant digits that a double keeps. */
const keptDigits = 15;

/** Numbers that a double may not hold become objects with their digits. @throws SyntaxError */
export function parseExact(text: string): unknown {
  // Few texts have such numbers, and a reviver is slow.
  if (!/[\d.]{16}/.test(text)) return JSON.parse(text) as unknown;
  return json.parse(text, (_name, value, { source = "" }) =>
    typeof value === "number" && digitsOf(source) > keptDigits ? json.rawJSON(source) : value,
  );
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
  if (!isComposed(value)) return JSON.stringify(value);
  const members = Object.entries(value).toSorted(([one], [other]) => (one < other ? -1 : 1));
  return `{${members.map(([name, member]) => `${JSON.stringify(name)}:${canonicalText(member)}`).join(",")}}`;
}

/** @param pointer RFC 6901. @returns undefined where there is nothing */
export function valueAtPointer(value: unknown, pointer: string): unknown {
  let found: unknown = value;
  for (const name of parsePointer(pointer)) {
    if (!isComposed(found) || !Object.hasOwn(found, name)) return undefined;
    found = found[name];
  }
  return found;
}

/** @returns undefined for what is no string, number or boolean */
export function scalarTextOf(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  if (json.isRawJSON(value)) return value.rawJSON;
  return typeof value === "number" || typeof value === "boolean" ? String(value) : undefined;
}

function isComposed(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !json.isRawJSON(value);
}
