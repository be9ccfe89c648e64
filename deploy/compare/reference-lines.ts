/** What another system sent: lines of a reference, or captures of the tee. */
import { BadLine } from "./bad-line.ts";
import { type FileLine, fileLines } from "./file-lines.ts";
import { parseExact, scalarTextOf, valueAtPointer } from "./json-values.ts";
import { timeForm, timeOf } from "./times.ts";

/** Where captured bodies, and the data of both systems, have what is compared: JSON pointers. */
export interface Pointers {
  /** Into the data of both: what names a change. Without it the `id` of a line is the `webhook-id`. */
  readonly id: string | undefined;
  /** Into a captured body. */
  readonly channel: string | undefined;
  readonly event: string | undefined;
  readonly data: string | undefined;
}

export interface ReferenceLine {
  readonly line: number;
  readonly channel: string | undefined;
  readonly id: string | undefined;
  readonly event: string | undefined;
  /** Undefined: the line has none. */
  readonly data: { readonly value: unknown } | undefined;
  /** Unix ms. */
  readonly at: number | undefined;
  readonly text: string;
}

/** A request of the capture was not taken: it does not count as sent. */
export interface Refused {
  readonly refused: number;
}

export interface CapturedLine extends ReferenceLine {
  /** Of the request in its capture; undefined for lines that are not captured. */
  readonly request: number | undefined;
}

/** @param path only requests to this path count, and all where it is undefined. @throws BadLine */
export async function* referenceLines(
  file: string,
  pointers: Pointers,
  path: string | undefined,
): AsyncGenerator<CapturedLine | Refused> {
  for await (const line of fileLines(file)) {
    const value = parsed(file, line);
    if (!value) continue;
    if ("status" in value && "request" in value) {
      const status = Number(value["status"]);
      if (status < 200 || status > 299) yield { refused: requestOf(file, line, value) };
    } else if ("request" in value) {
      if (path === undefined || value["path"] === path) yield captured(file, line, value, pointers);
    } else yield plain(file, line, value, pointers);
  }
}

/** Undefined for the beginning of a line whose end is not written. */
function parsed(file: string, { number, text, isOpen }: FileLine): Record<string, unknown> | undefined {
  let value: unknown;
  try {
    value = parseExact(text);
  } catch {
    if (isOpen) return undefined;
    throw new BadLine(file, number, "is not JSON");
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new BadLine(file, number, "must be an object with channel or id");
  }
  return value as Record<string, unknown>;
}

function plain(file: string, line: FileLine, value: Record<string, unknown>, pointers: Pointers): CapturedLine {
  const { channel, event, at } = value;
  if (channel !== undefined && typeof channel !== "string") throw bad(file, line, "channel: must be a string");
  if (event !== undefined && typeof event !== "string") throw bad(file, line, "event: must be a string");
  if (at !== undefined && momentOf(at) === undefined) throw bad(file, line, `at: must be ${timeForm}`);
  const data = "data" in value ? { value: value["data"] } : undefined;
  const given = value["id"] ?? (pointers.id === undefined ? undefined : valueAtPointer(data?.value, pointers.id));
  const id = scalarTextOf(given);
  if (given !== undefined && given !== null && id === undefined)
    throw bad(file, line, "id: must be a string or a number");
  if (pointers.id !== undefined && id === undefined) throw bad(file, line, `has no id, and no data${pointers.id}`);
  if (id === undefined && channel === undefined) throw bad(file, line, "must have channel or id");
  return { line: line.number, request: undefined, channel, id, event, data, at: momentOf(at), text: line.text };
}

function captured(file: string, line: FileLine, value: Record<string, unknown>, pointers: Pointers): CapturedLine {
  const request = requestOf(file, line, value);
  const base64 = value["bodyBase64"];
  const bodyText = typeof base64 === "string" ? Buffer.from(base64, "base64").toString() : String(value["body"]);
  let body: unknown;
  try {
    body = parseExact(bodyText);
  } catch {
    throw bad(file, line, "the captured body is not JSON");
  }
  const at = (pointer: string | undefined, usual: string): unknown => valueAtPointer(body, pointer ?? usual);
  const channel = scalarTextOf(at(pointers.channel, "/channel"));
  const event = scalarTextOf(at(pointers.event, "/type"));
  // A body without `data` is the data.
  const inBody = at(pointers.data, "/data");
  const data = inBody === undefined && pointers.data === undefined ? body : inBody;
  const id = pointers.id === undefined ? undefined : scalarTextOf(valueAtPointer(data, pointers.id));
  if (pointers.data !== undefined && data === undefined) throw bad(file, line, `the body has no ${pointers.data}`);
  if (pointers.id !== undefined && id === undefined) throw bad(file, line, `the data has no ${pointers.id}`);
  if (id === undefined && channel === undefined) {
    throw bad(file, line, "say with --id-at or --channel-at where the body names a change");
  }
  const sentAt = momentOf(value["at"]);
  return { line: line.number, request, channel, id, event, data: { value: data }, at: sentAt, text: bodyText };
}

/** The tee's numbers have 16 digits: their exact text is the value. */
function requestOf(file: string, line: FileLine, value: Record<string, unknown>): number {
  const request = Number(scalarTextOf(value["request"]));
  if (!Number.isSafeInteger(request)) throw bad(file, line, "request: must be a whole number");
  return request;
}

/** A number with many digits has its exact text as its value. */
function momentOf(at: unknown): number | undefined {
  if (typeof at === "number") return at;
  const text = scalarTextOf(at);
  return text === undefined ? undefined : timeOf(text);
}

function bad(file: string, { number }: FileLine, finding: string): BadLine {
  return new BadLine(file, number, finding);
}
