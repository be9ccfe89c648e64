/** What an answer of a service means for the client that called it. Pure. */
import type { RequestCode, WireError } from "../protocol/codes.ts";
import { requestCodes } from "../protocol/codes.ts";
import { isTooDeep, parseJson } from "../json.ts";
import type { ServiceAnswer } from "./service-client.ts";

export type CallOutcome = { ok: true; data: unknown } | { ok: false; error: WireError };

/** The answer to a call: the service's JSON, or an error with a code of the contract (a 4xx may bring its own). */
export function interpretAnswer(answer: ServiceAnswer, service: string): CallOutcome {
  switch (answer.kind) {
    case "unreachable":
      return refused("upstream_unavailable", `${service} cannot be reached: ${answer.reason}`);
    case "unanswered":
      return refused("upstream_timeout", `${service} did not answer, it may have acted: ${answer.reason}`);
    case "answer_too_large":
      return refused("upstream_bad_response", `the answer of ${service} is too large`);
    case "answered":
      return interpretStatus(answer, service);
  }
}

function interpretStatus(answer: ServiceAnswer & { kind: "answered" }, service: string): CallOutcome {
  const { status, body, retryAfterMs } = answer;
  const more = { status, ...(retryAfterMs !== undefined && { retryAfterMs }) };
  if (status === 204) return { ok: true, data: null };
  if (status >= 200 && status < 300) {
    const data = parseJson(body);
    if (data !== undefined && !isTooDeep(data)) return { ok: true, data };
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
function readRejection(body: string, status: number): CallOutcome | undefined {
  const own = parseJson(body) as Record<string, unknown> | null | undefined;
  if (typeof own !== "object" || own === null || isTooDeep(own)) return undefined;
  const { code, message, ...details } = own;
  if (typeof code !== "string" || code === "" || typeof message !== "string") return undefined;
  const more = Object.keys(details).length > 0 && { details };
  return { ok: false, error: { code, message, retryable: false, status, ...more } };
}

/** A failed outcome with a code of the contract. */
export function refused(code: RequestCode, message: string, more: Partial<WireError> = {}): CallOutcome {
  return { ok: false, error: { code, message, retryable: requestCodes[code].retryable, ...more } };
}
