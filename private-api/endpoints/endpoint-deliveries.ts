/** Sends queued changes to endpoints, as Standard Webhooks, and notes what became of it. */
import type { AttemptLog, EndpointHealth, EndpointStore, StoredEndpoint } from "../../shared/endpoints/contract.ts";
import { keptAnswerBytes } from "../../shared/endpoints/contract.ts";
import { type Endpoint, endpointOfService, endpointService, stateOf } from "../../shared/endpoints/endpoint.ts";
import type { ItemHead } from "../../shared/queues/item-head.ts";
import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import type { Logger } from "../../shared/runtime/logging.ts";
import { neverMoreThan, TokenBucket } from "../../shared/runtime/token-bucket.ts";
import { Circuit } from "../../shared/services/circuit.ts";
import type { EndpointClient } from "../../shared/services/endpoint-client.ts";
import type { ExchangeResult } from "../../shared/services/exchange.ts";
import { type ServiceAnswer, toAnswer } from "../../shared/services/service-client.ts";
import { signWebhook } from "../../shared/services/standard-webhooks.ts";
import { ServiceCircuits } from "../upstream/service-circuits.ts";
import type { CurrentEndpoints } from "./current-endpoints.ts";
import { requestParts } from "./request-parts.ts";

/** A dead endpoint takes a worker for as long as it does not answer: a few failures are enough. */
const circuitBounds = { minFailures: 3, windowMs: 60_000, maxProbeMs: 30_000 };
/** Endpoints that this process has not read yet, or that are gone and still have items: they share all of this, so that none leaves a trace. */
const unknownEndpoint = {
  ...({ stateName: endpointService(""), maxInFlight: 16, maxBatch: 1, isOutside: true } as const),
  circuit: new Circuit(),
};

/** What a dispatcher has to know of an endpoint, in the form that it knows services. */
export interface DispatchedEndpoint {
  stateName?: string;
  maxInFlight: number;
  maxBatch: 1;
  isOutside: true;
  circuit: Circuit;
  rate?: TokenBucket;
}

/** A queued change as the dispatcher hands it over. */
export interface EndpointDelivery {
  head: ItemHead;
  body: string;
  headers: Readonly<Record<string, string>>;
  webhookId: string;
}

export interface DeliveredAttempt {
  result: ExchangeResult;
  ms: number;
  error?: string;
}

export class EndpointDeliveries {
  readonly circuits = new ServiceCircuits({ bounds: circuitBounds });
  readonly #current: CurrentEndpoints;
  readonly #store: EndpointStore;
  readonly #client: EndpointClient;
  readonly #attempts: AttemptLog;
  readonly #onFailing: (stored: StoredEndpoint, why: { status?: number; health: EndpointHealth }) => Promise<void>;
  readonly #errors: ContainedErrors;
  readonly #logger: Logger;
  /** A dispatcher asks several times for each delivery. */
  readonly #dispatched = new WeakMap<Endpoint, DispatchedEndpoint>();
  readonly #rates = new Map<string, { perSecond: number; bucket: TokenBucket }>();

  /** @param options.onFailing after each failure */
  constructor(options: {
    current: CurrentEndpoints;
    store: EndpointStore;
    client: EndpointClient;
    attempts: AttemptLog;
    onFailing: (stored: StoredEndpoint, why: { status?: number; health: EndpointHealth }) => Promise<void>;
    errors: ContainedErrors;
    logger: Logger;
  }) {
    this.#current = options.current;
    this.#store = options.store;
    this.#client = options.client;
    this.#attempts = options.attempts;
    this.#onFailing = options.onFailing;
    this.#errors = options.errors;
    this.#logger = options.logger;
    options.current.listen((id, stored) => {
      if (stored) return;
      this.circuits.forget(endpointService(id));
      this.#rates.delete(id);
    });
  }

  /** @param listener called when an endpoint has changed: it may be sent something, or is gone */
  listen(listener: (id: string, isGone: boolean) => void): void {
    this.#current.listen((id, stored) => listener(id, stored === undefined));
  }

  /** @returns undefined for an endpoint that is sent nothing at present: its items wait. */
  known(id: string): DispatchedEndpoint | undefined {
    const endpoint = this.#current.index.get(id)?.endpoint;
    if (!endpoint) return unknownEndpoint;
    if (stateOf(endpoint) !== "live") return undefined;
    let dispatched = this.#dispatched.get(endpoint);
    if (!dispatched) {
      const { url, maxInFlight } = endpoint;
      const rate = this.#rateOf(endpoint);
      const circuit = this.circuits.of(circuitOwner(id, url));
      dispatched = { maxInFlight, maxBatch: 1, isOutside: true, circuit, ...(rate && { rate }) };
      this.#dispatched.set(endpoint, dispatched);
    }
    return dispatched;
  }

  /** Never rejects for what an endpoint does. */
  async deliver(service: string, delivery: EndpointDelivery): Promise<ServiceAnswer> {
    const id = endpointOfService(service) ?? "";
    const stored = await this.#storedFor(id, delivery);
    if (stored === "unknown") return { kind: "busy" };
    // It is gone, or was queued before a seek: it leaves the queue.
    if (!stored || (delivery.head.generation ?? 0) < stored.validFrom) return dropped;
    const { endpoint } = stored;
    if (stateOf(endpoint) !== "live") return { kind: "busy" };
    this.#rateOf(endpoint)?.owe(1);
    return this.circuits.guard(circuitOwner(id, endpoint.url), { user: "", hasTime: true }, async () => {
      const { result } = await this.attempt(stored, {
        id: delivery.webhookId,
        body: delivery.body,
        number: Number(delivery.headers["tidegate-attempt"]),
        headers: {
          "tidegate-key": delivery.headers["ce-partitionkey"] ?? "",
          "tidegate-sequence": delivery.headers["ce-sequence"] ?? "",
        },
      });
      return toAnswer(result);
    });
  }

  /** One request, whatever the state of the endpoint. It is noted. */
  async attempt(
    stored: StoredEndpoint,
    webhook: { id: string; body: string; number: number; headers: Readonly<Record<string, string>> },
  ): Promise<DeliveredAttempt> {
    const { endpoint } = stored;
    const now = new Date();
    const { url, headers, keysAt } = requestParts(endpoint);
    const from = performance.now();
    const result = await this.#client.send({
      url,
      body: webhook.body,
      timeoutMs: endpoint.timeoutMs,
      headers: {
        ...headers,
        ...signWebhook(webhook.id, webhook.body, keysAt(now.getTime()), now),
        "tidegate-attempt": String(webhook.number),
        ...webhook.headers,
      },
    });
    const ms = Math.round(performance.now() - from);
    const error = errorOf(result);
    if (result.kind === "unreachable") {
      this.#logger.info({ endpoint: endpoint.id, reason: result.reason }, "an endpoint cannot be reached");
    }
    this.#errors.contain("store", () =>
      this.#note(stored, webhook, { at: now.getTime(), ms, result, ...(error !== undefined && { error }) }),
    );
    return { result, ms, ...(error !== undefined && { error }) };
  }

  async #note(
    stored: StoredEndpoint,
    { id, number }: { id: string; number: number },
    { at, ms, result, error }: DeliveredAttempt & { at: number },
  ): Promise<void> {
    const status = "status" in result ? { status: result.status } : {};
    const answer = result.kind === "answered" ? beginning(result.body) : "";
    const health = await this.#attempts.add(stored.endpoint.id, {
      at,
      changeId: id,
      attempt: number,
      ...status,
      ms,
      ...(error !== undefined && { error }),
      ...(answer !== "" && { answer }),
    });
    if (error !== undefined) await this.#onFailing(stored, { ...status, health });
  }

  /** At least as new as when the change was queued; undefined: it is gone. */
  async #storedFor(id: string, { head }: EndpointDelivery): Promise<StoredEndpoint | "unknown" | undefined> {
    const known = this.#current.index.get(id);
    if (known && known.generation >= (head.generation ?? 0)) return known;
    try {
      return await this.#store.read(id);
    } catch (error) {
      if (error instanceof TidegateError) return "unknown";
      throw error;
    }
  }

  #rateOf({ id, perSecond }: Endpoint): TokenBucket | undefined {
    if (perSecond === undefined) return undefined;
    const known = this.#rates.get(id);
    if (known?.perSecond === perSecond) return known.bucket;
    const bucket = new TokenBucket(neverMoreThan(perSecond), performance.now());
    this.#rates.set(id, { perSecond, bucket });
    return bucket;
  }
}

const dropped: ServiceAnswer = { kind: "answered", status: 204, body: Buffer.alloc(0) };

function circuitOwner(id: string, url: string): { name: string; url: string } {
  return { name: endpointService(id), url };
}

/** Undefined for a 2xx. */
function errorOf(result: ExchangeResult): string | undefined {
  if (result.kind === "unreachable" || result.kind === "unanswered") return result.reason;
  const { status } = result;
  return status >= 200 && status < 300 ? undefined : `the endpoint answered ${status}`;
}

/** The cut may fall within a character. */
function beginning(body: Buffer): string {
  return body.subarray(0, keptAnswerBytes).toString("utf8").toWellFormed();
}
