/** What fails between this process and each service: logged, paced, and the latest failure of each service kept. */
import { type CallOutcome, notAccepted } from "../../shared/services/answers.ts";
import type { Logger } from "../../shared/runtime/logging.ts";
import { excerpt } from "../../shared/runtime/excerpt.ts";
import { PacedLog } from "../../shared/runtime/paced-log.ts";
import type { Rules } from "../../shared/rules/rules.ts";
import type { ServiceAnswer } from "../../shared/services/service-client.ts";

type WireFailure = (CallOutcome & { ok: false })["error"];

interface SentRequest {
  kind: string;
  service: { readonly name: string; readonly url: string };
  event: string;
  /** `ce-id` */
  id: string;
  traceparent: string;
  /** From the question to its outcome. */
  ms: number;
  /** Where the outcome does not tell. */
  cause?: string | undefined;
}

interface ServiceError {
  /** Unix ms. */
  at: number;
  code: string;
  /** The service's, if it answered. */
  status?: number;
  cause: string;
  event: string;
  /** `ce-id` */
  requestId: string;
  ms: number;
}

interface ServiceHistory {
  /** Unix ms. */
  lastSuccessAt?: number;
  lastError?: ServiceError;
}

/** Codes with which a service, or the way to it, failed. With any other code the service has decided. */
const failureCodes = new Set([
  "upstream_rejected",
  "upstream_bad_response",
  "upstream_failed",
  "upstream_unavailable",
  "upstream_timeout",
  "auth_unavailable",
]);

export class ServiceFailures {
  readonly #log: PacedLog;
  readonly #histories = new Map<string, ServiceHistory>();

  constructor(logger: Logger) {
    this.#log = new PacedLog({ logger, leftOutAt: "debug" });
  }

  of(service: string): Readonly<ServiceHistory> {
    return this.#histories.get(service) ?? {};
  }

  /** The service is gone from the rules. */
  forget(service: string): void {
    this.#histories.delete(service);
  }

  /** @param options.rules in force: of a service that left them meanwhile nothing is kept */
  note(request: SentRequest, outcome: CallOutcome, { answer, rules }: { answer: ServiceAnswer; rules: Rules }): void {
    if (!rules.service(request.service.name)) return;
    const failure = outcome.ok || !isFailure(outcome.error) ? undefined : this.#report(request, outcome.error);
    if (!concernsService(answer)) return;
    const history = this.#histories.get(request.service.name) ?? {};
    this.#histories.set(request.service.name, history);
    if (failure) history.lastError = failure;
    else history.lastSuccessAt = Date.now();
  }

  #report({ kind, service, event, id, traceparent, ms, ...request }: SentRequest, error: WireFailure): ServiceError {
    const { code, status, message } = error;
    const failure = {
      code,
      ...(status !== undefined && { status }),
      cause: status === 401 ? notAccepted : excerpt(request.cause ?? message),
      event,
      requestId: id,
      ms: Math.round(ms),
    };
    const url = service.url.replace(/\/\/[^/]*@/, "//");
    const [, trace] = traceparent.split("-");
    // A service may answer 401 with any code of its own.
    const cause = status === 401 ? "401" : code;
    this.#log.warn(
      `${service.name} ${cause}`,
      { service: service.name, url, kind, trace, ...failure },
      "a request to a service failed",
    );
    return { at: Date.now(), ...failure };
  }
}

function isFailure({ code, status }: WireFailure): boolean {
  return failureCodes.has(code) || status === 401;
}

/** False where this process sent nothing, or gave up by itself: the last error stays the one that led there. */
function concernsService(answer: ServiceAnswer): boolean {
  if (answer.kind === "unreachable" || answer.kind === "unanswered") return answer.fault !== "own";
  return answer.kind !== "busy" && answer.kind !== "circuit_open";
}
