/** Sends queued changes to endpoints. */
import type { EndpointStore, StoredEndpoint } from "../../shared/endpoints/contract.ts";
import { type Endpoint, endpointOfService, endpointService, stateOf } from "../../shared/endpoints/endpoint.ts";
import type { ItemHead } from "../../shared/queues/item-head.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import { neverMoreThan, TokenBucket } from "../../shared/runtime/token-bucket.ts";
import { type AttemptResult, Circuit } from "../../shared/services/circuit.ts";
import { retryAfterOf } from "../../shared/services/answers.ts";
import { type ServiceAnswer, toAnswer } from "../../shared/services/service-client.ts";
import { circuitOpen, resultOf, ServiceCircuits } from "../upstream/service-circuits.ts";
import type { CurrentEndpoints } from "./current-endpoints.ts";
import { EndpointPace } from "./endpoint-pace.ts";
import type { EndpointRequests } from "./endpoint-requests.ts";

/** A dead endpoint takes a worker for as long as it does not answer: a few failures are enough. */
const circuitBounds = { minFailures: 3, windowMs: 60_000, maxProbeMs: 30_000 };
/** Shared by all endpoints that this process has not read yet, or that are gone and still have items, so that none of them takes memory. */
const unknownEndpoint = {
  ...({ stateName: endpointService(""), maxInFlight: 16, isOutside: true } as const),
  circuit: new Circuit(),
};

/** What a dispatcher has to know of an endpoint: a `KnownService`. */
export interface DispatchedEndpoint {
  stateName?: string;
  maxInFlight: number;
  isOutside: true;
  circuit: Circuit;
  rate?: Pick<EndpointPace, "waitMs" | "tokens">;
}

/** A live endpoint, computed once for each version of it. */
interface LiveEndpoint {
  readonly stored: StoredEndpoint;
  readonly pace: EndpointPace;
  readonly dispatched: DispatchedEndpoint;
}

/** A queued change as the dispatcher hands it over. */
export interface EndpointDelivery {
  head: ItemHead;
  /** Of its queue. */
  key: string;
  sequence: string;
  body: string;
  attempt: number;
  webhookId: string;
}

export class EndpointDeliveries {
  readonly circuits = new ServiceCircuits({ bounds: circuitBounds });
  readonly #current: CurrentEndpoints;
  readonly #store: EndpointStore;
  readonly #requests: EndpointRequests;
  /** Endpoints that are live, by service: a dispatcher asks several times for each delivery. */
  readonly #live = new Map<string, LiveEndpoint>();
  /** By id. Kept when the endpoint changes, unless `perSecond` does: requests already sent still count. */
  readonly #paces = new Map<string, { perSecond: number | undefined; pace: EndpointPace }>();

  constructor(options: { current: CurrentEndpoints; store: EndpointStore; requests: EndpointRequests }) {
    this.#current = options.current;
    this.#store = options.store;
    this.#requests = options.requests;
    options.current.listen((id, stored) => {
      const service = endpointService(id);
      this.#live.delete(service);
      if (stored) {
        this.#paces.get(id)?.pace.release();
        return;
      }
      this.circuits.forget(service);
      this.#paces.delete(id);
    });
  }

  /** @param listener called when an endpoint has changed: it may be sent something, or is gone */
  listen(listener: (id: string, isGone: boolean) => void): void {
    this.#current.listen((id, stored) => listener(id, stored === undefined));
  }

  /** @returns undefined for an endpoint that is sent nothing at present: its items wait. */
  known(service: string): DispatchedEndpoint | undefined {
    const live = this.#live.get(service);
    if (live) return live.dispatched;
    const stored = this.#current.index.get(endpointOfService(service) ?? "");
    if (!stored) return unknownEndpoint;
    const { endpoint } = stored;
    if (stateOf(endpoint) !== "live") return undefined;
    const { url, maxInFlight } = endpoint;
    const pace = this.#paceOf(endpoint);
    const circuit = this.circuits.of({ name: service, url });
    const dispatched: DispatchedEndpoint = { maxInFlight, isOutside: true, circuit, rate: pace };
    this.#live.set(service, { stored, pace, dispatched });
    return dispatched;
  }

  /** Never rejects for what an endpoint does. */
  async deliver(service: string, delivery: EndpointDelivery): Promise<ServiceAnswer> {
    const { generation = 0 } = delivery.head;
    const live = this.#live.get(service);
    const isNew = live !== undefined && live.stored.generation >= generation;
    const stored = isNew ? live.stored : await this.#storedFor(endpointOfService(service) ?? "", generation);
    if (stored === "unknown") return { kind: "busy" };
    // The endpoint is gone, or the change was queued before a seek: the item leaves the queue as if it was delivered.
    if (!stored || generation < stored.validFrom) return dropped;
    const { endpoint } = stored;
    if (stateOf(endpoint) !== "live") return { kind: "busy" };
    const pace = isNew ? live.pace : this.#paces.get(endpoint.id)?.pace;
    const from = performance.now();
    // It was claimed before the endpoint asked for a pause.
    if (pace?.isHeld(from)) return { kind: "busy" };
    pace?.owe();
    const circuit = isNew ? live.dispatched.circuit : this.circuits.of({ name: service, url: endpoint.url });
    const turn = circuit.begin(from);
    if (!turn) return circuitOpen(circuit, from);
    let learnt: AttemptResult = "unknown";
    const { webhookId: id, key, sequence, attempt, body } = delivery;
    const webhook = { id, key, sequence, attempt, body };
    try {
      const sent = this.#requests.send(stored, webhook);
      const { result } = this.#requests.ended(stored, webhook, sent, await sent.result);
      const answer = toAnswer(result);
      learnt = resultOf(answer, true);
      const holdMs = retryAfterOf(answer);
      // An answer to a request from before the last change does not hold the changed endpoint.
      if (holdMs !== undefined && isNew && this.#live.get(service) === live) pace?.hold(holdMs, performance.now());
      return answer;
    } finally {
      circuit.end(turn, learnt, { user: "", nowMs: performance.now() });
    }
  }

  /** The endpoint, at least as new as when the change was queued; undefined: it is gone; `unknown`: the store cannot be reached. */
  async #storedFor(id: string, generation: number): Promise<StoredEndpoint | "unknown" | undefined> {
    const known = this.#current.index.get(id);
    if (known && known.generation >= generation) return known;
    try {
      return await this.#store.read(id);
    } catch (error) {
      if (error instanceof TidegateError) return "unknown";
      throw error;
    }
  }

  #paceOf({ id, perSecond }: Endpoint): EndpointPace {
    const known = this.#paces.get(id);
    if (known && known.perSecond === perSecond) return known.pace;
    const bucket = perSecond === undefined ? undefined : new TokenBucket(neverMoreThan(perSecond), performance.now());
    const pace = new EndpointPace(bucket);
    this.#paces.set(id, { perSecond, pace });
    return pace;
  }
}

const dropped: ServiceAnswer = { kind: "answered", status: 204, body: Buffer.alloc(0) };
