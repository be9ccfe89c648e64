/** The ordering key of an item: the value at a JSON pointer in its data. Pure. */
import { TidegateError } from "../runtime/errors.ts";
import { parseJson } from "../json/json.ts";
import { parsePointer, valueAt } from "../json/json-pointer.ts";

export const maxKeyBytes = 256;

/**
 * @param data JSON text, valid. @param pointer RFC 6901
 * @returns a string as it is, numbers as decimal text, booleans as `true` or `false`
 * @throws TidegateError `invalid_request` where there is no such value, or it is not fit for a key
 */
export function orderingKey(data: string, pointer: string): string {
  const value = valueAt(Buffer.from(data), parsePointer(pointer));
  const key = value && scalarText(value);
  if (key === undefined)
    throw new TidegateError("invalid_request", `data${pointer}: must be a string, a number or a boolean`);
  assertName(key, `data${pointer}`);
  return key;
}

/** @param path what the error names. @throws TidegateError `invalid_request` for text that is not fit for a key */
export function assertName(text: string, path: string): void {
  if (!text.isWellFormed()) throw new TidegateError("invalid_request", `${path}: is not well-formed Unicode`);
  if (Buffer.byteLength(text) > maxKeyBytes) {
    throw new TidegateError("invalid_request", `${path}: is longer than ${maxKeyBytes} bytes`);
  }
}

/** @param json one value. @returns undefined for what is no string, number or boolean. */
export function scalarText(json: Uint8Array): string | undefined {
  const text = Buffer.from(json.buffer, json.byteOffset, json.length).toString();
  if (text.startsWith('"')) {
    const value = parseJson(text);
    return typeof value === "string" ? value : undefined;
  }
  if (text === "true" || text === "false") return text;
  if (/^-?\d+$/.test(text)) return text === "-0" ? "0" : text;
  const value = Number(text);
  if (text === "" || !Number.isFinite(value) || !/^[-\d]/.test(text)) return undefined;
  return Number.isInteger(value) ? BigInt(value).toString() : String(value);
}
