/** Calls services: signed requests, bounded in time, number and size of answers. */
import { setTimeout as pause } from "node:timers/promises";
import { Agent } from "undici";
import type { Service } from "../runtime/lifecycle.ts";
import { jittered } from "../runtime/timing.ts";
import { maxAnswerBytes } from "../protocol/limits.ts";
import { parseRetryAfter } from "../protocol/retry-after.ts";
import type { ServiceOptions } from "../rules/rules.ts";
import type { AnswerPart } from "./answer-budget.ts";
import { eventHeaders } from "./cloudevents.ts";
import { exchange, type ExchangeResult } from "./exchange.ts";
import { type Identity, signIdentity } from "./identity-token.ts";
import { Restarts } from "./restarts.ts";
import { type RequestKind, ServicePlaces } from "./service-places.ts";
import type { ServiceSecret } from "../rules/service-secret.ts";
import { signWebhook } from "./standard-webhooks.ts";

export interface ServiceRequest {
  kind: RequestKind;
  service: ServiceOptions;
  /** In the order of the rules: the first one signs the identity, all of them sign the body. */
  secrets: readonly [ServiceSecret, ...ServiceSecret[]];
  /** Stands for `{cell}` in the service's URL. */
  cell?: string;
  /** Appended to the service's URL. */
  path: string;
  /** JSON text, sent as it is. */
  body: string | Buffer;
  eventId: string;
  eventType: string;
  source: string;
  /** When the event began to exist, where that is not now. */
  time?: Date;
  identity: Identity;
  traceparent: string;
  /** From now to the end of the answer, including the wait for a free place. */
  timeoutMs: number;
  answer: AnswerTaker;
  /** Marks the request: the answer will be compared, not used. */
  isShadow?: boolean;
  /** Further headers. */
  headers?: Readonly<Record<string, string>>;
  /** `webhook-id`, where it is not the event's id. */
  webhookId?: string;
}

/** The party that waits for the answer. */
export interface AnswerTaker {
  /** False: a request that was not sent yet is dropped. */
  readonly isConnected: boolean;
  /** Share of the budget for large answers, released by its owner. */
  readonly part: AnswerPart;
}

/** Any HTTP status counts as answered. */
export type ServiceAnswer =
  | { kind: "answered"; status: number; body: Buffer; contentType?: string; retryAfterMs?: number }
  /** Not sent: too many requests wait for a place, or the lease of a queued item has ended meanwhile. */
  | { kind: "busy" }
  /** Not sent: the service did not answer lately. */
  | { kind: "circuit_open"; retryAfterMs: number }
  /** A 2xx whose body cannot be decompressed. */
  | { kind: "unreadable"; status: number; encoding: string }
  /** A 2xx whose body is over the limit. */
  | { kind: "answer_too_large" }
  | Extract<ExchangeResult, { kind: "unreachable" | "unanswered" }>;

const connectTimeoutMs = 2_000;
/** Between two attempts to reach a service that takes no connection. */
const reconnectPauseMs = 100;
/** The identity token outlives the request by this, to tolerate clock differences. */
const identityMarginSeconds = 60;

export class ServiceClient implements Service {
  readonly #agent = new Agent({
    connect: { timeout: connectTimeoutMs },
    maxResponseSize: maxAnswerBytes,
    headersTimeout: 0,
    bodyTimeout: 0,
    allowH2: false,
  });
  /** By service name. */
  readonly #places = new Map<string, { service: ServiceOptions; places: ServicePlaces }>();
  readonly #restarts = new Restarts();
  #stopped = false;

  async start(): Promise<void> {}

  /** Lets requests under way finish. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#agent.close();
  }

  /** Fails requests under way. */
  async abort(): Promise<void> {
    this.#stopped = true;
    await this.#agent.destroy();
  }

  /**
   * Sends the request once. Where the service takes no connection nothing was sent: the request is held for about as long as a
   * restart takes. Never throws because of the network or the service.
   */
  async send(given: ServiceRequest): Promise<ServiceAnswer> {
    const deadline = performance.now() + given.timeoutMs;
    const places = this.#placesOf(given.service);
    const entry = await places.acquire(given.kind, Buffer.byteLength(given.body), given.timeoutMs);
    if (entry === "full") return { kind: "busy" };
    if (entry === "late") return notSent(given, "no free place in time");
    try {
      // A place may become free before the timer of the wait fires, as after a pause of this process.
      if (performance.now() >= deadline) return notSent(given, "no free place in time");
      if (!given.answer.isConnected) return notSent(given, "the caller is gone");
      return await this.#sendOnceTaken(given, deadline);
    } finally {
      places.release(given.kind);
    }
  }

  async #sendOnceTaken(given: ServiceRequest, deadline: number): Promise<ServiceAnswer> {
    const url = urlOf(given);
    // The queue retries by itself, and nobody waits for a shadow.
    const mayWait = given.kind !== "queued" && given.isShadow !== true;
    for (;;) {
      const answer = await this.#send(given, url, deadline);
      if (answer.kind !== "unreachable") this.#restarts.accepted(url);
      if (answer.kind !== "unreachable" || answer.fault !== "service") return answer;
      const now = performance.now();
      const until = Math.min(this.#restarts.refused(url, now), deadline);
      if (!mayWait || this.#stopped || now + reconnectPauseMs > until) return answer;
      await pause(jittered(reconnectPauseMs));
      if (!given.answer.isConnected || performance.now() >= deadline) return answer;
    }
  }

  async #send(given: ServiceRequest, url: string, deadline: number): Promise<ServiceAnswer> {
    const [{ identityKey }] = given.secrets;
    const now = new Date();
    const timeoutMs = Math.max(1, Math.floor(deadline - performance.now()));
    const identityToken = signIdentity(given.identity, {
      key: identityKey,
      service: given.service.name,
      now,
      lifetimeSeconds: Math.ceil(timeoutMs / 1000) + identityMarginSeconds,
    });
    const { service, answer } = given;
    const result = await exchange(this.#agent, {
      url: url + given.path,
      body: given.body,
      headers: {
        "content-type": "application/json",
        "accept-encoding": "identity",
        ...eventHeaders({
          id: given.eventId,
          type: given.eventType,
          source: given.source,
          time: given.time ?? now,
          subject: given.identity.user,
          sessionId: given.identity.sessionId,
          tenant: given.identity.tenant,
        }),
        authorization: `Bearer ${identityToken}`,
        ...signWebhook(given.webhookId ?? given.eventId, given.body, given.secrets, now),
        traceparent: given.traceparent,
        "tidegate-timeout-ms": timeoutMs.toString(),
        ...(given.isShadow && { "tidegate-shadow": "true" }),
        ...given.headers,
      },
      timeoutMs,
      within: limitOf(given),
      makeRoom: async (waitMs) => answer.part.grow(service.name, waitMs),
      closesAfterServerError: true,
    });
    return toAnswer(result);
  }

  #placesOf(service: ServiceOptions): ServicePlaces {
    const known = this.#places.get(service.name);
    if (known?.service === service) return known.places;
    const places = known?.places ?? new ServicePlaces(service);
    // New rules create new options for every service.
    if (known) places.setBounds(service);
    this.#places.set(service.name, { service, places });
    return places;
  }
}

/** The way to here has taken a little of the caller's time. */
const mostOfTheTime = 0.9;

/** The limit that a timeout names, and who sets it. */
function limitOf({ timeoutMs, service }: ServiceRequest): string {
  const isOfService = timeoutMs >= service.timeoutMs * mostOfTheTime;
  // What is left of the caller's time is no number that the caller knows.
  return isOfService ? `${service.timeoutMs} ms (timeoutMs of the service in the rules)` : "the caller's timeoutMs";
}

/** A queued item is tried again without the loss of an attempt. */
function notSent({ kind }: ServiceRequest, reason: string): ServiceAnswer {
  return kind === "queued" ? { kind: "busy" } : { kind: "unreachable", reason, fault: "own" };
}

function urlOf({ service, cell = "" }: ServiceRequest): string {
  return service.url.replaceAll("{cell}", cell);
}

export function toAnswer(result: ExchangeResult): ServiceAnswer {
  if (result.kind === "unreachable" || result.kind === "unanswered") return result;
  const { status, headers } = result;
  const retryAfter = headers["retry-after"];
  const retryAfterMs = typeof retryAfter === "string" ? parseRetryAfter(retryAfter, Date.now()) : undefined;
  const retry = retryAfterMs !== undefined && { retryAfterMs };
  const type = headers["content-type"];
  const contentType = typeof type === "string" && { contentType: type };
  if (result.kind === "answered") return { kind: "answered", status, body: result.body, ...contentType, ...retry };
  // The body counts for no other status.
  if (status < 200 || status > 299) return { kind: "answered", status, body: Buffer.alloc(0), ...retry };
  if (result.kind === "answer_too_large") return { kind: "answer_too_large" };
  return { kind: "unreadable", status, encoding: result.encoding };
}
