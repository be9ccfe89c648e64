/** The one way to call a service: signed, bounded in time, number and size of answers. */
import { Agent, request } from "undici";
import type { Service } from "../lifecycle.ts";
import type { ServiceOptions } from "../rules/rules.ts";
import { ConcurrencyLimit } from "./concurrency-limit.ts";
import { eventHeaders } from "./cloudevents.ts";
import { type Identity, signIdentity } from "./identity-token.ts";
import type { ServiceSecret } from "./service-secret.ts";
import { signWebhook } from "./standard-webhooks.ts";

export interface ServiceRequest {
  service: ServiceOptions;
  /** In the order of the service's rule: the first signs the identity, each the body. */
  secrets: readonly [ServiceSecret, ...ServiceSecret[]];
  /** Appended to the service's URL. */
  path: string;
  /** JSON text, sent as it is. */
  body: string;
  eventId: string;
  eventType: string;
  source: string;
  identity: Identity;
  traceparent: string;
  /** From now to the end of the answer, waiting for a free place included. */
  timeoutMs: number;
  /** It is told that its answer is compared, not used. */
  isShadow?: boolean;
}

/** What came of a request; statuses are not judged here. */
export type ServiceAnswer =
  | { kind: "answered"; status: number; body: string; retryAfterMs?: number }
  /** Not sent: no connection, or no free place in time. */
  | { kind: "unreachable"; reason: string }
  /** Sent, and no complete answer in time: the outcome is unknown. */
  | { kind: "unanswered"; reason: string }
  | { kind: "answer_too_large" };

const connectTimeoutMs = 2_000;
const maxAnswerBytes = 1024 * 1024;
/** Requests that wait for a place at one service. */
const maxWaiting = 1_000;
/** The identity token outlives the request by this much, for clocks that differ. */
const identityMarginSeconds = 60;

/** Errors of a request that never left: nothing was connected. */
const notSentCodes = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "EADDRNOTAVAIL",
  "UND_ERR_CONNECT_TIMEOUT",
  "UND_ERR_INVALID_ARG",
  "ERR_INVALID_URL",
  "EPROTO",
]);
/** A connection without its TLS handshake carries no request either. */
const tlsCodes = /^(ERR_SSL_|ERR_TLS_|CERT_|UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_)/;

export class ServiceClient implements Service {
  readonly #agent = new Agent({
    connect: { timeout: connectTimeoutMs },
    maxResponseSize: maxAnswerBytes,
    headersTimeout: 0,
    bodyTimeout: 0,
    allowH2: false,
  });
  /** By service name; replaced when its maxInFlight changes. */
  readonly #limits = new Map<string, { maxInFlight: number; limit: ConcurrencyLimit }>();

  async start(): Promise<void> {}

  /** Requests under way come to their end. */
  async stop(): Promise<void> {
    await this.#agent.close();
  }

  /** Requests under way fail. */
  async abort(): Promise<void> {
    await this.#agent.destroy();
  }

  /** One attempt. Never throws for what the network or the service does. */
  async send(given: ServiceRequest): Promise<ServiceAnswer> {
    const deadline = performance.now() + given.timeoutMs;
    const limit = this.#limit(given.service);
    if (!(await limit.acquire(given.timeoutMs)))
      return { kind: "unreachable", reason: "too many requests wait for it" };
    try {
      return await this.#send(given, deadline);
    } finally {
      limit.release();
    }
  }

  async #send(given: ServiceRequest, deadline: number): Promise<ServiceAnswer> {
    const [{ identityKey }] = given.secrets;
    const now = new Date();
    const timeoutMs = Math.max(1, Math.floor(deadline - performance.now()));
    const identityToken = signIdentity(given.identity, {
      key: identityKey,
      service: given.service.name,
      now,
      lifetimeSeconds: Math.ceil(timeoutMs / 1000) + identityMarginSeconds,
    });
    const abort = new AbortController();
    const timer = setTimeout(() => abort.abort(new DOMException("too late", "TimeoutError")), timeoutMs);
    try {
      const answer = await request(given.service.url + given.path, {
        dispatcher: this.#agent,
        method: "POST",
        signal: abort.signal,
        body: given.body,
        headers: {
          "content-type": "application/json",
          ...eventHeaders({
            id: given.eventId,
            type: given.eventType,
            source: given.source,
            time: now,
            subject: given.identity.user,
            sessionId: given.identity.sessionId,
            tenant: given.identity.tenant,
          }),
          authorization: `Bearer ${identityToken}`,
          ...signWebhook(given.eventId, given.body, given.secrets, now),
          traceparent: given.traceparent,
          "tidegate-timeout-ms": timeoutMs.toString(),
          ...(given.isShadow && { "tidegate-shadow": "true" }),
        },
      });
      const body = await answer.body.text();
      const retryAfterMs = parseRetryAfter(answer.headers["retry-after"], now);
      return {
        kind: "answered",
        status: answer.statusCode,
        body,
        ...(retryAfterMs !== undefined && { retryAfterMs }),
      };
    } catch (error) {
      return failure(error as Error & { code?: string });
    } finally {
      clearTimeout(timer);
    }
  }

  #limit({ name, maxInFlight }: ServiceOptions): ConcurrencyLimit {
    const known = this.#limits.get(name);
    if (known?.maxInFlight === maxInFlight) return known.limit;
    const limit = new ConcurrencyLimit({ maxInFlight, maxWaiting });
    this.#limits.set(name, { maxInFlight, limit });
    return limit;
  }
}

function failure(error: Error & { code?: string }): ServiceAnswer {
  const code = error.code ?? "";
  if (notSentCodes.has(code) || tlsCodes.test(code)) return { kind: "unreachable", reason: code };
  if (code === "UND_ERR_RES_EXCEEDED_MAX_SIZE") return { kind: "answer_too_large" };
  return { kind: "unanswered", reason: error.name === "TimeoutError" ? "too late" : "the connection was cut" };
}

/** Milliseconds from a Retry-After header, seconds or date (RFC 9110, 10.2.3). */
function parseRetryAfter(header: string | string[] | undefined, now: Date): number | undefined {
  if (typeof header !== "string") return undefined;
  if (/^\d{1,9}$/.test(header.trim())) return Number(header) * 1000;
  const date = Date.parse(header);
  return Number.isNaN(date) ? undefined : Math.max(0, date - now.getTime());
}
