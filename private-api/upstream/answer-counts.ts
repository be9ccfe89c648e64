/** Counts the outcomes of requests by service. The metric has labels of services that the rules name, and of no other. */
import type { Rules } from "../../shared/rules/rules.ts";
import type { ServiceAnswer } from "../../shared/services/service-client.ts";
import type { PrivateApiMetrics } from "../metrics/metrics.ts";

/** The class of the status, or why there is none. */
const outcomes = [
  ...(["2xx", "3xx", "4xx", "5xx", "unreachable", "timeout", "cut"] as const),
  ...(["unreadable", "answer_too_large", "busy", "circuit_open"] as const),
];
type Outcome = (typeof outcomes)[number];

export class AnswerCounts {
  readonly #counter: PrivateApiMetrics["upstreamAnswers"];
  readonly #onGone: (service: string) => void;
  readonly #services = new Set<string>();
  #rules: Rules | undefined;

  /** @param options.onGone called for a counted service that the rules name no longer */
  constructor(options: { counter: PrivateApiMetrics["upstreamAnswers"]; onGone: (service: string) => void }) {
    this.#counter = options.counter;
    this.#onGone = options.onGone;
  }

  /** @param rules in force */
  count(service: string, answer: ServiceAnswer, rules: Rules): void {
    if (this.#rules !== rules) this.#prune(rules);
    if (!rules.service(service)) return;
    this.#services.add(service);
    this.#counter.inc({ service, outcome: outcomeOf(answer) });
  }

  #prune(rules: Rules): void {
    this.#rules = rules;
    for (const service of this.#services) {
      if (rules.service(service)) continue;
      this.#services.delete(service);
      for (const outcome of outcomes) this.#counter.remove({ service, outcome });
      this.#onGone(service);
    }
  }
}

function outcomeOf(answer: ServiceAnswer): Outcome {
  switch (answer.kind) {
    case "answered":
      if (answer.status >= 500) return "5xx";
      if (answer.status >= 400) return "4xx";
      return answer.status >= 300 ? "3xx" : "2xx";
    case "unanswered":
      return answer.fault === "deadline" ? "timeout" : "cut";
    case "unreachable":
    case "unreadable":
    case "answer_too_large":
    case "busy":
    case "circuit_open":
      return answer.kind;
  }
}
