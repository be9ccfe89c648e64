/** What a service's answer means: for the client that called, and for the next request. Pure. */
import { isUtf8 } from "node:buffer";
import type { RequestCode, WireError } from "../protocol/codes.ts";
import { requestCodes } from "../protocol/codes.ts";
import { maxRetryAfterMs } from "../protocol/retry-after.ts";
import { excerpt } from "../runtime/excerpt.ts";
import { parseJson } from "../json/json.ts";
import { takeMembers } from "../json/json-members.ts";
import { isJson } from "../json/json-scan.ts";
import type { WebhookReply } from "../protocol/relay.ts";
import type { ServiceAnswer } from "./service-client.ts";

/** `data` and `details` are JSON text in one line, as the service wrote it. */
export type CallOutcome =
  { ok: true; data: string } | { ok: false; error: Omit<WireError, "details">; details?: string };

/** A 401: most services check the signature before anything else. */
export const notAccepted =
  "the service does not accept the request (401): check its secret on both sides, and its clock";

/** Limits of a service's own code and message; longer texts belong into other members. */
const maxCodeLength = 128;
const maxMessageLength = 4_096;
/** Wait before a retry when there was no room. */
const busyRetryMs = 1_000;

/** A repeat uses up no attempt, so a service that answers `Retry-After: 0` would be called without end. */
const minRetryAfterMs = 500;

/** The pause that the answer to a delivery asks for, in ms. */
export function retryAfterOf(answer: ServiceAnswer): number | undefined {
  if (answer.kind !== "answered" || (answer.status !== 429 && answer.status !== 503)) return undefined;
  const { retryAfterMs } = answer;
  if (retryAfterMs === undefined) return undefined;
  return Math.max(minRetryAfterMs, Math.min(maxRetryAfterMs, retryAfterMs));
}

/** @returns the service's JSON, or an error with a code of the wire contract; a 4xx may have a code of its own. */
export function interpretAnswer(answer: ServiceAnswer, service: string): CallOutcome {
  switch (answer.kind) {
    case "unreachable":
      return refused("upstream_unavailable", `${service} cannot be reached: ${answer.reason}`);
    case "busy":
      return busy(`too many requests wait for ${service}`);
    case "circuit_open": {
      const { retryAfterMs } = answer;
      return refused("upstream_unavailable", `${service} failed too often lately: nothing was sent`, { retryAfterMs });
    }
    case "unanswered":
      return refused("upstream_timeout", `${service}: ${answer.reason}; the call may have taken effect`);
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

/** More would not be an answer to a webhook, but data. */
const maxWebhookReplyBytes = 64 * 1024;
const replyTypes = /^(text\/[\x21-\x7e]+|application\/([\x21-\x7e]+\+)?(json|xml))[\x20-\x7e]*$/i;

/** @returns as JSON text a {@link WebhookReply}: a 2xx with JSON, XML or text; everything else is an error. */
export function interpretWebhookAnswer(answer: ServiceAnswer, service: string): CallOutcome {
  if (answer.kind !== "answered" || answer.status < 200 || answer.status > 299) {
    const outcome = interpretAnswer(answer, service);
    return outcome.ok ? refused("upstream_bad_response", `${service} gave no answer for a webhook`) : outcome;
  }
  const { status, body, contentType } = answer;
  const isText = body.length === 0 || (replyTypes.test(contentType ?? "") && isUtf8(body));
  if (!isText || body.length > maxWebhookReplyBytes) {
    const expected = `JSON, XML or text of at most ${maxWebhookReplyBytes} bytes`;
    return refused("upstream_bad_response", `the answer of ${service} to a webhook is not ${expected}`, { status });
  }
  const reply: WebhookReply = {
    status,
    body: body.toString("utf8"),
    ...(body.length > 0 && contentType !== undefined && { contentType }),
  };
  return { ok: true, data: JSON.stringify(reply) };
}

/** For the log: any 2xx says that the work is done; a 429, or a 503 with `Retry-After`, comes from a service that works. */
export function interpretDeliveryAnswer(answer: ServiceAnswer, service: string): CallOutcome {
  if (answer.kind !== "answered") return interpretAnswer(answer, service);
  const { status, retryAfterMs } = answer;
  const isPaused = status === 429 || (status === 503 && retryAfterMs !== undefined);
  return isPaused || (status >= 200 && status < 300) ? { ok: true, data: "" } : interpretAnswer(answer, service);
}

/** Takes `code` and `message` from the body of a 4xx; the other members become `details`. */
export function readRejection(body: Buffer, status: number): (CallOutcome & { ok: false }) | undefined {
  if (!isJson(body)) return undefined;
  const own = takeMembers(inOneLine(body), ["code", "message"]);
  const code = parseJson(own?.taken.get("code") ?? "");
  const message = parseJson(own?.taken.get("message") ?? "");
  if (!own || typeof code !== "string" || code === "" || typeof message !== "string") return undefined;
  if (isLongerThan(maxCodeLength, code) || isLongerThan(maxMessageLength, message)) return undefined;
  const error = { code, message, retryable: false, status };
  return { ok: false, error, ...(own.rest !== undefined && { details: own.rest }) };
}

/** In code points, as schemas count. */
function isLongerThan(most: number, text: string): boolean {
  return text.length > 2 * most || (text.length > most && Array.from(text).length > most);
}

const lineBreak = 0x0a;
const space = 0x20;

/** @param json valid JSON: its raw line breaks are white space between values. */
function inOneLine(json: Buffer): Buffer {
  if (!json.includes(lineBreak)) return json;
  const line = Buffer.from(json);
  for (let at = 0; at < line.length; at++) if (line[at] === lineBreak) line[at] = space;
  return line;
}

/** A failed outcome with a code of the wire contract. */
export function refused(
  code: RequestCode,
  message: string,
  more: Partial<WireError> = {},
): CallOutcome & { ok: false } {
  return { ok: false, error: { code, message, retryable: requestCodes[code].retryable, ...more } };
}

/** The request was not sent, for lack of room. */
export function busy(message: string): CallOutcome & { ok: false } {
  return refused("upstream_unavailable", message, { retryAfterMs: busyRetryMs });
}
