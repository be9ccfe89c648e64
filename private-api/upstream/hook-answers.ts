/** What the answers of the connect and the subscribe hook decide. Pure. */
import { isUtf8 } from "node:buffer";
import { scanJson } from "../../shared/json/json-scan.ts";
import { type HookGrant, isPresentableInfo, readHookGrant } from "../../shared/protocol/relay.ts";
import { busy, type CallOutcome, refused } from "../../shared/services/answers.ts";
import type { ServiceAnswer } from "../../shared/services/service-client.ts";

/** JSON values parsed of a hook's answer: a grant has at most 1,000 channels. */
const maxGrantValues = 10_000;

export function connectDecision(answer: ServiceAnswer): CallOutcome {
  const grant = grantOf(answer);
  if (grant) return { ok: true, data: JSON.stringify(grant) };
  const isRefused = answer.kind === "answered" && (answer.status === 401 || answer.status === 403);
  return isRefused
    ? connectRefusal("forbidden", "the connect hook refused")
    : connectRefusal("auth_unavailable", "the connect hook gave no decision");
}

export function subscribeDecision(answer: ServiceAnswer, channel: string): CallOutcome {
  const grant = grantOf(answer);
  if (grant) return { ok: true, data: JSON.stringify({ info: grant.info }) };
  if (answer.kind === "answered" && answer.status === 403) {
    return refused("channel_not_allowed", `the subscribe hook does not allow ${channel}`);
  }
  if (answer.kind === "busy") return busy("too many requests are waiting for the subscribe hook");
  return refused("upstream_unavailable", "the subscribe hook gave no decision");
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

/** Refuses a connection with a code of the handshake. */
function connectRefusal(code: "forbidden" | "auth_unavailable", message: string): CallOutcome {
  return { ok: false, error: { code, message, retryable: code === "auth_unavailable" } };
}
