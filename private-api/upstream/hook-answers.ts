/** What the answers of the connect and the subscribe hook decide. Pure. */
import { isUtf8 } from "node:buffer";
import { scanJson } from "../../shared/json/json-scan.ts";
import { type HookGrant, hookRefusalStatus, isPresentableInfo, readHookGrant } from "../../shared/protocol/relay.ts";
import { busy, type CallOutcome, notAccepted, readRejection, refused } from "../../shared/services/answers.ts";
import type { ServiceAnswer } from "../../shared/services/service-client.ts";

/** JSON values parsed of a hook's answer: a grant has at most 1,000 channels. */
const maxGrantValues = 10_000;

export function connectDecision(answer: ServiceAnswer): CallOutcome {
  const grant = grantOf(answer);
  if (grant) return { ok: true, data: JSON.stringify(grant) };
  const message = isNotAccepted(answer) ? notAccepted : "the connect hook gave no decision";
  return (
    refusalOf(answer, { code: "forbidden", message: "the connect hook refused" }) ?? {
      ok: false,
      error: { code: "auth_unavailable", message, retryable: true, ...statusOf(answer) },
    }
  );
}

export function subscribeDecision(answer: ServiceAnswer, channel: string): CallOutcome {
  const grant = grantOf(answer);
  if (grant) return { ok: true, data: JSON.stringify({ info: grant.info }) };
  const message = `the subscribe hook does not allow ${channel}`;
  const refusal = refusalOf(answer, { code: "channel_not_allowed", message });
  if (refusal) return refusal;
  if (answer.kind === "busy") return busy("too many requests are waiting for the subscribe hook");
  const cause = isNotAccepted(answer) ? notAccepted : "the subscribe hook gave no decision";
  return refused("upstream_unavailable", cause, statusOf(answer));
}

/** A 401 means that the service rejects the request itself. It says nothing about the client. */
function isNotAccepted(answer: ServiceAnswer): boolean {
  return answer.kind === "answered" && answer.status === 401;
}

function statusOf(answer: ServiceAnswer): { status?: number } {
  return answer.kind === "answered" ? { status: answer.status } : {};
}

/** A 403 refuses, with the `code` and `message` of its body where it has them. */
function refusalOf(answer: ServiceAnswer, standard: { code: string; message: string }): CallOutcome | undefined {
  if (answer.kind !== "answered" || answer.status !== hookRefusalStatus) return undefined;
  const { status, body } = answer;
  const own = readRejection(body, status);
  return { ok: false, error: own ? own.error : { ...standard, retryable: false, status } };
}

/** Undefined where the answer allows nothing. */
function grantOf(answer: ServiceAnswer): HookGrant | undefined {
  const isSuccess = answer.kind === "answered" && answer.status >= 200 && answer.status < 300;
  return isSuccess ? readGrant(answer.body) : undefined;
}

/** Reads an empty body or a hook's JSON object; undefined for anything else, such as a proxy's error page. */
function readGrant(body: Buffer): HookGrant | undefined {
  if (!isUtf8(body)) return undefined;
  const text = body.toString("utf8");
  if (text.trim() === "") return {};
  const scan = scanJson(body);
  const grant = scan.kind === "json" && scan.values <= maxGrantValues ? readHookGrant(text) : undefined;
  if (!grant) return undefined;
  const { channels, info } = grant;
  if (info !== undefined && !isPresentableInfo(info)) return undefined;
  return { ...(channels && { channels }), ...(info !== undefined && { info }) };
}
