/** Reads request bodies. The data of a message stays text. */
import { isUtf8 } from "node:buffer";
import { TidegateError } from "../runtime/errors.ts";
import { excerpt } from "../runtime/excerpt.ts";
import { maxJsonMembers, parseJson } from "../json/json.ts";
import { type JsonMember, scanMembers } from "../json/json-members.ts";
import { maxJsonDepth, scanJson } from "../json/json-scan.ts";
import { compactJson } from "../json/json-text.ts";
import { maxPayloadBytes } from "../protocol/limits.ts";

/** Brackets, commas and colons of a body without data: the largest such body has a handful of members. */
export const maxBodyStructure = 1_024;

/** @throws TidegateError where the bytes are not UTF-8: Node would replace them by U+FFFD. */
export function bodyText(body: Buffer): string {
  return checkedUtf8(body).toString("utf8");
}

function checkedUtf8(body: Buffer): Buffer {
  if (!isUtf8(body)) throw new TidegateError("invalid_request", "the body is not UTF-8");
  return body;
}

function withoutByteOrderMark(body: Buffer): Buffer {
  return body[0] === 0xef && body[1] === 0xbb && body[2] === 0xbf ? body.subarray(3) : body;
}

/**
 * Parses a peer's JSON after measuring how much the parser would build. A byte order mark is skipped.
 * @param maxStructure brackets, commas and colons.
 * @throws TidegateError where the body is not JSON or exceeds a bound.
 */
export function parseBody(body: Buffer, maxStructure: number): unknown {
  const json = withoutByteOrderMark(checkedUtf8(body));
  const { kind, structure, widest, errorAt } = scanJson(json);
  if (structure > maxStructure) {
    throw new TidegateError("payload_too_large", `the body has more than ${maxStructure} brackets, commas and colons`);
  }
  if (widest > maxJsonMembers) throw tooManyMembers();
  if (kind === "too_deep")
    throw new TidegateError("invalid_request", `the body is nested deeper than ${maxJsonDepth} levels`);
  if (kind === "malformed") throw notJson(json, errorAt);
  return parseJson(json.toString("utf8"));
}

export type DataBody =
  /** An object whose member `data` is a {@link JsonText}; null for JSON that is not an object. */
  { kind: "value"; value: unknown } | { kind: "not_json"; errorAt: number } | { kind: "refused"; error: TidegateError };

/** Of a member other than the data: `expect` is the largest. */
const maxMemberValues = 16;

/** As {@link parseBody}, for an object whose member `data` stays text. @param json UTF-8. */
export function readDataBody(json: Buffer): DataBody {
  const scan = scanMembers(withoutByteOrderMark(json), maxJsonMembers);
  switch (scan.kind) {
    case "malformed":
      return { kind: "not_json", errorAt: scan.errorAt };
    case "no_object":
      return { kind: "value", value: null };
    case "too_many":
      return { kind: "refused", error: tooManyMembers() };
    case "too_deep": {
      const message = `data: nested deeper than ${maxJsonDepth} levels`;
      return { kind: "refused", error: new TidegateError("invalid_request", message) };
    }
    case "members":
  }
  const values = new Map<string, unknown>();
  for (const member of scan.members) {
    const { name } = member;
    if (values.has(name)) {
      const message = `the member "${excerpt(name)}" is given twice`;
      return { kind: "refused", error: new TidegateError("invalid_request", message) };
    }
    values.set(name, name === "data" ? compactJson(member.json, maxPayloadBytes) : valueOf(member));
  }
  return { kind: "value", value: Object.fromEntries(values) };
}

/** As {@link readDataBody}. @throws TidegateError where there is no value. */
export function parseDataBody(body: Buffer): unknown {
  const read = readDataBody(checkedUtf8(body));
  switch (read.kind) {
    case "value":
      return read.value;
    case "not_json":
      throw notJson(withoutByteOrderMark(body), read.errorAt);
    case "refused":
      throw read.error;
  }
}

/** A member with too many values becomes an array, which no schema accepts, instead of being parsed. */
function valueOf({ json, values }: JsonMember): unknown {
  return values > maxMemberValues ? [] : parseJson(Buffer.from(json).toString("utf8"));
}

/** @param json UTF-8. @param errorAt as in {@link JsonScan}. */
export function notJson(json: Uint8Array, errorAt: number): TidegateError {
  const { line, column } = positionAt(json, errorAt);
  const where = `line ${line}, column ${column}`;
  const what = errorAt >= json.length ? "it ends too early, at" : "error at";
  return new TidegateError("invalid_request", `the body is not JSON: ${what} ${where}`);
}

/** Counts from 1. Anyone may send a large body, so it makes no strings of it. */
function positionAt(json: Uint8Array, offset: number): { line: number; column: number } {
  let line = 1;
  let column = 1;
  for (let at = 0; at < offset && at < json.length; at++) {
    const byte = json[at] ?? 0;
    if (byte === 0x0a) {
      line++;
      column = 1;
    } else if (!continuesCharacter(byte)) column++;
  }
  return { line, column };
}

/** In UTF-8. */
function continuesCharacter(byte: number): boolean {
  return (byte & 0xc0) === 0x80;
}

function tooManyMembers(): TidegateError {
  return new TidegateError("payload_too_large", `an object has more than ${maxJsonMembers} members`);
}
