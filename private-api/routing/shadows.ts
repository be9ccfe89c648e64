import { type ServiceAnswer, ServiceClient, type ServiceRequest } from "../../shared/http/service-client.ts";
import type { Service } from "../../shared/lifecycle.ts";
import type { Logger } from "../../shared/logging.ts";
import type { PrivateApiMetrics } from "../metrics.ts";
import { differences } from "./differences.ts";

/** Each may hold two answers of up to 1 MiB until they are compared. */
const maxInFlight = 64;
const maxDifferences = 5;
/** At most one difference is logged in this time; the others are counted. */
const logEveryMs = 1_000;

type Outcome = "same" | "different" | "failed" | "skipped";

/**
 * Sends requests to a second service as well, and compares its answer. Nobody waits for it: it has connections and places
 * of its own, and what finds none is left out.
 */
export class Shadows implements Service {
  readonly #client = new ServiceClient();
  readonly #metrics: PrivateApiMetrics;
  readonly #logger: Logger;
  /** By service; one that has none is not listed. */
  readonly #inFlight = new Map<string, number>();
  #allInFlight = 0;
  #loggedAt = -Infinity;
  #unlogged = 0;

  constructor(options: { metrics: PrivateApiMetrics; logger: Logger }) {
    this.#metrics = options.metrics;
    this.#logger = options.logger;
  }

  async start(): Promise<void> {
    await this.#client.start();
  }

  /** What is under way is cut off: nobody waits for it. */
  async stop(): Promise<void> {
    await this.#client.abort();
  }

  /** @param answering what the answer is compared with. */
  send(request: ServiceRequest, answering: Promise<ServiceAnswer>): void {
    const { name, maxInFlight: ownMax } = request.service;
    const own = this.#inFlight.get(name) ?? 0;
    if (own >= ownMax || this.#allInFlight >= maxInFlight) {
      this.#metrics.shadows.inc({ outcome: "skipped" });
      return;
    }
    this.#inFlight.set(name, own + 1);
    this.#allInFlight++;
    void this.#compare(request, answering)
      .catch((error: unknown): Outcome => {
        this.#logger.error({ err: error, shadow: name }, "the answer of a shadow could not be compared");
        return "failed";
      })
      .then((outcome) => {
        this.#metrics.shadows.inc({ outcome });
        this.#allInFlight--;
        const left = (this.#inFlight.get(name) ?? 1) - 1;
        if (left === 0) this.#inFlight.delete(name);
        else this.#inFlight.set(name, left);
      });
  }

  async #compare(request: ServiceRequest, answering: Promise<ServiceAnswer>): Promise<Outcome> {
    const [expected, answer] = await Promise.all([answering, this.#client.send({ ...request, isShadow: true })]);
    if (answer.kind !== "answered") return "failed";
    // There is nothing to hold it against.
    if (expected.kind !== "answered") return "skipped";
    const found = differences(expected, answer, maxDifferences);
    if (found.length === 0) return "same";
    this.#report({
      event: request.eventType,
      shadow: request.service.name,
      statuses: [expected.status, answer.status],
      differences: found,
    });
    return "different";
  }

  #report(difference: Record<string, unknown>): void {
    const now = performance.now();
    if (now < this.#loggedAt + logEveryMs) {
      this.#unlogged++;
      return;
    }
    this.#logger.warn({ ...difference, unlogged: this.#unlogged }, "the answer of a shadow differs");
    this.#loggedAt = now;
    this.#unlogged = 0;
  }
}
