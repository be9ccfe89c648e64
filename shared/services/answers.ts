/** What an answer of a service means for the client that called it. Pure. */
import type { RequestCode, WireError } from "../protocol/codes.ts";
import { requestCodes } from "../protocol/codes.ts";
import { excerpt } from "../runtime/excerpt.ts";
import { parseJson } from "../json/json.ts";
import { takeMembers } from "../json/json-members.ts";
import { isJson } from "../json/json-scan.ts";
import type { ServiceAnswer } from "./service-client.ts";

/** `data` and `details` are JSON text in one line, as its author wrote it. */
export type CallOutcome =
  { ok: true; data: string } | { ok: false; error: Omit<WireError, "details">; details?: string };

/** A service's own code and message are for programs and people, what is larger belongs into other members. */
const maxCodeLength = 128;
const maxMessageLength = 4_096;
/** Before another try of what found no room. */
const busyRetryMs = 1_000;

/** The answer to a call: the service's JSON, or an error with a code of the contract (a 4xx may bring its own). */
export function interpretAnswer(answer: ServiceAnswer, service: string): CallOutcome {
  switch (answer.kind) {
    case "unreachable":
      return refused("upstream_unavailable", `${service} cannot be reached: ${answer.reason}`);
    case "busy":
      return busy(`too many requests wait for ${service}`);
    case "unanswered":
      return refused("upstream_timeout", `${service} did not answer, it may have acted: ${answer.reason}`);
    case "answer_too_large":
      return refused("upstream_bad_response", `the answer of ${service} is too large`);
    case "unreadable": {
      const { status, encoding } = answer;
      const message = `the answer of ${service} in the encoding ${excerpt(encoding)} cannot be read: send it uncompressed`;
      return refused("upstream_bad_response", message, { status });
    }
    case "answered":
      return interpretStatus(answer, service);
  }
}

function interpretStatus(answer: ServiceAnswer & { kind: "answered" }, service: string): CallOutcome {
  const { status, body, retryAfterMs } = answer;
  const more = { status, ...(retryAfterMs !== undefined && { retryAfterMs }) };
  if (status === 204) return { ok: true, data: "null" };
  if (status >= 200 && status < 300) {
    if (isJson(body)) return { ok: true, data: inOneLine(body).toString("utf8") };
    return refused("upstream_bad_response", `${service} answered ${status} without JSON that can be passed on`, {
      status,
    });
  }
  if (status === 429) return refused("rate_limited", `${service} asks for fewer calls`, more);
  if (status >= 400 && status < 500) {
    return readRejection(body, status) ?? refused("upstream_rejected", `${service} answered ${status}`, { status });
  }
  if (status >= 500)
    return refused("upstream_failed", `${service} answered ${status}`, status === 503 ? more : { status });
  return refused("upstream_bad_response", `${service} answered ${status}`, { status });
}

/** What a 4xx says by itself: its `code` and `message`, and whatever else its object has as `details`. */
function readRejection(body: Buffer, status: number): CallOutcome | undefined {
  if (!isJson(body)) return undefined;
  const own = takeMembers(inOneLine(body), ["code", "message"]);
  const code = parseJson(own?.taken.get("code") ?? "");
  const message = parseJson(own?.taken.get("message") ?? "");
  if (!own || typeof code !== "string" || code === "" || typeof message !== "string") return undefined;
  if (code.length > maxCodeLength || message.length > maxMessageLength) return undefined;
  const error = { code, message, retryable: false, status };
  return { ok: false, error, ...(own.rest !== undefined && { details: own.rest }) };
}

const lineBreak = 0x0a;
const space = 0x20;

/** @param json scanned: its line breaks are white space between values. */
function inOneLine(json: Buffer): Buffer {
  if (!json.includes(lineBreak)) return json;
  const line = Buffer.from(json);
  for (let at = 0; at < line.length; at++) if (line[at] === lineBreak) line[at] = space;
  return line;
}

/** A failed outcome with a code of the contract. */
export function refused(
  code: RequestCode,
  message: string,
  more: Partial<WireError> = {},
): CallOutcome & { ok: false } {
  return { ok: false, error: { code, message, retryable: requestCodes[code].retryable, ...more } };
}

/** Nothing was sent: there is no room now. */
export function busy(message: string): CallOutcome & { ok: false } {
  return refused("upstream_unavailable", message, { retryAfterMs: busyRetryMs });
}
