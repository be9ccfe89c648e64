/** Bodies of requests: what is read of them, and what stays text. */
import { isUtf8 } from "node:buffer";
import { TidegateError } from "../runtime/errors.ts";
import { excerpt } from "../runtime/excerpt.ts";
import { maxJsonDepth, maxJsonMembers, measureJson, parseJson } from "../json/json.ts";
import { type JsonMember, scanMembers } from "../json/json-scan.ts";
import { passedOn } from "../json/json-text.ts";
import { maxPayloadBytes } from "../protocol/limits.ts";

/** Brackets, commas and colons of a body without data: the largest has a handful of members. */
export const maxBodyStructure = 1_024;

/** @throws TidegateError where the bytes are not UTF-8: Node would put U+FFFD in their place. */
export function bodyText(body: Buffer): string {
  if (!isUtf8(body)) throw new TidegateError("invalid_request", "the body is not UTF-8");
  return body.toString("utf8");
}

const byteOrderMark = "\ufeff";

function withoutMark(text: string): string {
  return text.startsWith(byteOrderMark) ? text.slice(byteOrderMark.length) : text;
}

/**
 * A JSON text of a peer to its value; a byte order mark before it is left out. How much that builds is known before it is parsed.
 * @param maxStructure brackets, commas and colons.
 * @throws TidegateError where there is no value.
 */
export function parseBody(text: string, maxStructure: number): unknown {
  const { depth, structure, widest } = measureJson(text);
  if (structure > maxStructure) {
    throw new TidegateError("payload_too_large", `has more than ${maxStructure} brackets, commas and colons`);
  }
  if (widest > maxJsonMembers) throw tooManyMembers();
  if (depth > maxJsonDepth) throw new TidegateError("invalid_request", `nested deeper than ${maxJsonDepth} levels`);
  const value = parseJson(withoutMark(text));
  if (value === undefined) throw new TidegateError("invalid_request", "the body is not JSON");
  return value;
}

export type DataBody =
  /** An object with its members, or what is no object: `data` is a {@link JsonText}. */
  { kind: "value"; value: unknown } | { kind: "not_json" } | { kind: "refused"; error: TidegateError };

/** Of a member beside the data: `expect` is the largest. */
const maxMemberValues = 16;

/** As {@link parseBody}, of an object whose data is not parsed: it is passed on as it was written. */
export function readDataBody(text: string): DataBody {
  const scan = scanMembers(Buffer.from(withoutMark(text)), maxJsonMembers);
  switch (scan.kind) {
    case "malformed":
      return { kind: "not_json" };
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
    values.set(name, name === "data" ? passedOn(member.json, maxPayloadBytes) : valueOf(member));
  }
  return { kind: "value", value: Object.fromEntries(values) };
}

/** As {@link readDataBody}. @throws TidegateError where there is no value. */
export function parseDataBody(text: string): unknown {
  const body = readDataBody(text);
  switch (body.kind) {
    case "value":
      return body.value;
    case "not_json":
      throw new TidegateError("invalid_request", "the body is not JSON");
    case "refused":
      throw body.error;
  }
}

/** What has more values than any member may have is of no type that a schema knows. */
function valueOf({ json, values }: JsonMember): unknown {
  return values > maxMemberValues ? [] : parseJson(Buffer.from(json).toString("utf8"));
}

function tooManyMembers(): TidegateError {
  return new TidegateError("payload_too_large", `an object has more than ${maxJsonMembers} members`);
}
