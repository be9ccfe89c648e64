/** The ordering key of an item: the value at a JSON pointer in its data. Pure. */
import { TidegateError } from "../runtime/errors.ts";
import { parseJson } from "../json/json.ts";
import { parsePointer, type PointerPath, valueAt } from "../json/json-pointer.ts";

export const maxKeyBytes = 256;

/** Pointers of rules in force, and some of earlier ones. */
const paths = new Map<string, PointerPath>();
const maxPaths = 1_000;

function pathOf(pointer: string): PointerPath {
  const known = paths.get(pointer);
  if (known) return known;
  if (paths.size >= maxPaths) paths.clear();
  const path = parsePointer(pointer);
  paths.set(pointer, path);
  return path;
}

/**
 * @param data JSON text, valid. @param pointer RFC 6901
 * @returns a string as it is, numbers as decimal text, booleans as `true` or `false`
 * @throws TidegateError `invalid_request` where there is no such value, or it is not fit for a key
 */
export function orderingKey(data: string, pointer: string): string {
  const value = valueAt(Buffer.from(data), pathOf(pointer));
  const key = value && scalarText(value);
  if (key === undefined)
    throw new TidegateError("invalid_request", `data${pointer}: must be a string, a number or a boolean`);
  assertName(key, `data${pointer}`);
  return key;
}

/** @param path what the error names. @throws TidegateError `invalid_request` for half a surrogate pair */
export function assertWellFormed(text: string, path: string): void {
  if (!text.isWellFormed()) throw new TidegateError("invalid_request", `${path}: is not well-formed Unicode`);
}

/** @param path what the error names. @throws TidegateError `invalid_request` for text that is not fit for a key */
export function assertName(text: string, path: string): void {
  assertWellFormed(text, path);
  if (Buffer.byteLength(text) > maxKeyBytes) {
    throw new TidegateError("invalid_request", `${path}: is longer than ${maxKeyBytes} bytes`);
  }
}

/** @param json one value. @returns undefined for what is no string, number or boolean, and for a number of too many digits. */
export function scalarText(json: Uint8Array): string | undefined {
  const buffer = Buffer.isBuffer(json) ? json : Buffer.from(json.buffer, json.byteOffset, json.length);
  const text = buffer.toString();
  if (text.startsWith('"')) {
    // Most keys and ids have no escape.
    if (!text.includes("\\")) return text.slice(1, -1);
    const value = parseJson(text);
    return typeof value === "string" ? value : undefined;
  }
  return text === "true" || text === "false" ? text : decimalText(text);
}

/** An integer in the form that {@link decimalText} returns. */
const plainInteger = /^(?:0|-?[1-9]\d{0,99})$/;

/** Equal numbers give equal text, of all digits: a double would merge large ids. @returns undefined for what is no number */
function decimalText(text: string): string | undefined {
  if (plainInteger.test(text)) return text;
  const [, sign = "", whole = "", fraction = "", exponent = "0"] =
    /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([-+]?\d+))?$/.exec(text) ?? [];
  if (whole === "") return undefined;
  const digits = (whole + fraction).replace(/^0+/, "");
  if (digits === "") return "0";
  // Digits before the decimal point; negative: zeros after it.
  const point = digits.length - fraction.length + Number(exponent);
  if (Math.abs(point) > maxKeyBytes) return undefined;
  const before = digits.slice(0, Math.max(0, point)).padEnd(point, "0") || "0";
  const after = "0".repeat(Math.max(0, -point)) + digits.slice(Math.max(0, point));
  const significant = withoutTrailingZeros(after);
  return sign + before + (significant === "" ? "" : `.${significant}`);
}

function withoutTrailingZeros(digits: string): string {
  let end = digits.length;
  while (digits[end - 1] === "0") end--;
  return digits.slice(0, end);
}
