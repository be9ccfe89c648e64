import { TidegateError } from "../errors.ts";
import { maxJsonDepth, maxJsonMembers, measureJson, parseJson } from "../json.ts";
import { maxPayloadBytes } from "../protocol/limits.ts";

/** What a request has around its data. */
const envelopeDepth = 8;
/** Each of them is a byte of the data's JSON: data within its limit cannot have more. The rest is for what is around it. */
export const maxBodyStructure = maxPayloadBytes + 1_024;

const byteOrderMark = "\ufeff";

export type BodyReading =
  | { kind: "value"; value: unknown }
  | { kind: "not_json" }
  /** It was not parsed. */
  | { kind: "too_much"; error: TidegateError };

/**
 * A JSON text of a peer to its value; a byte order mark before it is left out. How much that builds is known before it is parsed.
 * @param maxStructure brackets, commas and colons.
 */
export function readBody(text: string, maxStructure: number): BodyReading {
  const { depth, structure, widest } = measureJson(text);
  if (structure > maxStructure) {
    const message = `has more than ${maxStructure} brackets, commas and colons`;
    return { kind: "too_much", error: new TidegateError("payload_too_large", message) };
  }
  if (widest > maxJsonMembers) {
    const message = `an object has more than ${maxJsonMembers} members`;
    return { kind: "too_much", error: new TidegateError("payload_too_large", message) };
  }
  if (depth > maxJsonDepth + envelopeDepth) {
    const message = `nested deeper than ${maxJsonDepth} levels`;
    return { kind: "too_much", error: new TidegateError("invalid_request", message) };
  }
  const value = parseJson(text.startsWith(byteOrderMark) ? text.slice(byteOrderMark.length) : text);
  return value === undefined ? { kind: "not_json" } : { kind: "value", value };
}

/** As {@link readBody}. @throws TidegateError where there is no value. */
export function parseBody(text: string, maxStructure: number): unknown {
  const reading = readBody(text, maxStructure);
  switch (reading.kind) {
    case "value":
      return reading.value;
    case "not_json":
      throw new TidegateError("invalid_request", "the body is not JSON");
    case "too_much":
      throw reading.error;
  }
}
