/** The ordering key of an item: the value at a JSON pointer in its data. Pure. */
import { TidegateError } from "../runtime/errors.ts";
import { parseJson } from "../json/json.ts";
import { takeMembers } from "../json/json-members.ts";

export const maxKeyBytes = 256;

/**
 * @param data JSON text, valid. @param pointer RFC 6901
 * @returns a string as it is, numbers as decimal text, booleans as `true` or `false`
 * @throws TidegateError `invalid_request` where there is no such value, or it is not fit for a key
 */
export function orderingKey(data: string, pointer: string): string {
  const text = valueAt(data, pointer);
  const key = text === undefined ? undefined : scalarText(text);
  if (key === undefined)
    throw new TidegateError("invalid_request", `data${pointer}: must be a string, a number or a boolean`);
  if (!key.isWellFormed()) throw new TidegateError("invalid_request", `data${pointer}: is not well-formed Unicode`);
  if (Buffer.byteLength(key) > maxKeyBytes) {
    throw new TidegateError("invalid_request", `data${pointer}: is longer than ${maxKeyBytes} bytes`);
  }
  return key;
}

/** The JSON text of the value, so that numbers keep all of their digits. */
function valueAt(data: string, pointer: string): string | undefined {
  let text: string | undefined = data;
  for (const part of pointer.split("/").slice(1)) {
    const name = part.replaceAll("~1", "/").replaceAll("~0", "~");
    text = text === undefined ? undefined : memberOf(text.trim(), name);
  }
  return text?.trim();
}

function memberOf(text: string, name: string): string | undefined {
  // Names are compared byte by byte, as ASCII.
  if (text.startsWith("{") && /^[\x20-\x7e]*$/.test(name))
    return takeMembers(Buffer.from(text), [name])?.taken.get(name);
  if (text.startsWith("[") && !/^(0|[1-9]\d{0,9})$/.test(name)) return undefined;
  if (!/^[[{]/.test(text)) return undefined;
  const container = parseJson(text) as Record<string, unknown> | undefined;
  const item = container && Object.hasOwn(container, name) ? container[name] : undefined;
  return item === undefined ? undefined : JSON.stringify(item);
}

function scalarText(text: string): string | undefined {
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
