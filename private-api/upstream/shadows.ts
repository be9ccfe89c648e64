import { Counts } from "../../shared/runtime/counts.ts";
import { AnswerBudget, type AnswerPart, smallAnswerBytes } from "../../shared/services/answer-budget.ts";
import { type ServiceAnswer, ServiceClient, type ServiceRequest } from "../../shared/services/service-client.ts";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import type { Logger } from "../../shared/runtime/logging.ts";
import { PacedLog } from "../../shared/runtime/paced-log.ts";
import type { PrivateApiMetrics } from "../metrics/metrics.ts";
import { differences } from "./differences.ts";

/** Each request holds two answers until they are compared: small ones, or large ones within the budget. */
const maxInFlight = 64;
const maxDifferences = 5;
/** Logged differences; the others are counted. */
const logRate = { capacity: 1, perSecond: 1 };

/** A request to a shadow; {@link Shadows} adds the receiver of its answer. */
export type ShadowRequest = Omit<ServiceRequest, "answer">;

type Outcome = "same" | "different" | "failed" | "skipped";

/**
 * Sends requests to a second service as well, and compares its answers. No client waits for a shadow: it has its own
 * connections and its own limit of requests in flight, and requests over the limit are skipped.
 */
export class Shadows implements Service {
  readonly #client = new ServiceClient();
  readonly #budget = new AnswerBudget();
  readonly #metrics: PrivateApiMetrics;
  readonly #logger: Logger;
  readonly #differences: PacedLog;
  /** Requests in flight, by service. */
  readonly #inFlight = new Counts<string>();
  #allInFlight = 0;

  constructor(options: { metrics: PrivateApiMetrics; logger: Logger }) {
    this.#metrics = options.metrics;
    this.#logger = options.logger;
    this.#differences = new PacedLog({ logger: options.logger, rate: logRate });
  }

  async start(): Promise<void> {
    await this.#client.start();
  }

  /** Aborts the requests in flight. */
  async stop(): Promise<void> {
    await this.#client.abort();
  }

  /** @param answering the service's own answer, to compare with. */
  send(request: ShadowRequest, answering: Promise<ServiceAnswer>): void {
    const { name, maxInFlight: ownMax } = request.service;
    if (this.#inFlight.of(name) >= ownMax || this.#allInFlight >= maxInFlight) {
      this.#metrics.shadows.inc({ outcome: "skipped" });
      return;
    }
    this.#inFlight.add(name, 1);
    this.#allInFlight++;
    void this.#compare(request, answering)
      .catch((error: unknown): Outcome => {
        this.#logger.error({ err: error, shadow: name }, "comparing the answer of a shadow failed");
        return "failed";
      })
      .then((outcome) => {
        this.#metrics.shadows.inc({ outcome });
        this.#allInFlight--;
        this.#inFlight.add(name, -1);
      });
  }

  async #compare(request: ShadowRequest, answering: Promise<ServiceAnswer>): Promise<Outcome> {
    const kept = this.#budget.part("kept answers", request.eventId);
    const part = this.#budget.part("shadows", request.identity.sessionId);
    try {
      const sent = { ...request, isShadow: true, answer: { isConnected: true, part } };
      return this.#judge(request, ...(await Promise.all([keep(answering, kept), this.#client.send(sent)])));
    } finally {
      kept.release();
      part.release();
    }
  }

  #judge(request: ShadowRequest, expected: ServiceAnswer, answer: ServiceAnswer): Outcome {
    if (answer.kind !== "answered") return "failed";
    // The service itself gave no answer to compare with.
    if (expected.kind !== "answered") return "skipped";
    const found = differences(expected, answer, maxDifferences);
    if (!found) return "skipped";
    if (found.length === 0) return "same";
    const difference = {
      event: request.eventType,
      shadow: request.service.name,
      statuses: [expected.status, answer.status],
      differences: found,
    };
    this.#differences.warn("difference", difference, "the answer of a shadow differs");
    return "different";
  }
}

/** The service's own answer; a large one only while the budget has room to keep it. */
async function keep(answering: Promise<ServiceAnswer>, part: AnswerPart): Promise<ServiceAnswer> {
  const answer = await answering;
  if (answer.kind !== "answered" || answer.body.length <= smallAnswerBytes) return answer;
  return (await part.grow("kept answers", 0)) ? answer : { kind: "answer_too_large" };
}
