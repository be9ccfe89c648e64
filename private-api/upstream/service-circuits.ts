/** One circuit for each service: calls and deliveries of queues learn from each other whether it answers. */
import { type AttemptResult, Circuit, type CircuitBounds } from "../../shared/services/circuit.ts";
import type { ServiceAnswer } from "../../shared/services/service-client.ts";

/** Identifies a circuit: a service that moves to another URL gets a new, closed one. */
export interface CircuitOwner {
  readonly name: string;
  readonly url: string;
}

export type CircuitListener = (service: string, isOpen: boolean) => void;

export class ServiceCircuits {
  readonly #random: () => number;
  readonly #bounds: CircuitBounds | undefined;
  readonly #circuits = new Map<string, { url: string; circuit: Circuit }>();
  readonly #listeners: CircuitListener[] = [];
  readonly #heardListeners: (() => void)[] = [];

  constructor({ random = Math.random, bounds }: { random?: () => number; bounds?: CircuitBounds } = {}) {
    this.#random = random;
    this.#bounds = bounds;
  }

  /** @param listener called when a circuit opens or closes */
  listen(listener: CircuitListener): void {
    this.#listeners.push(listener);
  }

  /** @param listener called where a circuit is open for a few users, once another one is answered: what waits for a probe may go on */
  onHeard(listener: () => void): void {
    this.#heardListeners.push(listener);
  }

  of({ name, url }: CircuitOwner): Circuit {
    const known = this.#circuits.get(name);
    if (known?.url === url) return known.circuit;
    const onChange = (isOpen: boolean): void => {
      for (const listener of this.#listeners) listener(name, isOpen);
    };
    const onHeard = (): void => {
      for (const listener of this.#heardListeners) listener();
    };
    const circuit = new Circuit({
      random: this.#random,
      onChange,
      onHeard,
      ...(this.#bounds && { bounds: this.#bounds }),
    });
    this.#circuits.set(name, { url, circuit });
    return circuit;
  }

  /** The service is gone. */
  forget(name: string): void {
    this.#circuits.delete(name);
  }

  /**
   * Sends a request unless the circuit is open, and lets the circuit learn from the answer.
   * @param request.user whose request it is: the failures of a few users do not open the circuit for others; "": nobody's
   * @param request.hasTime false: the caller waits so briefly that a missing answer says nothing about the service
   */
  async guard(
    service: CircuitOwner,
    request: { user: string; hasTime: boolean },
    send: () => Promise<ServiceAnswer>,
  ): Promise<ServiceAnswer> {
    const circuit = this.of(service);
    const from = performance.now();
    const attempt = circuit.begin(from, request.user);
    if (!attempt) return circuitOpen(circuit, from, request.user);
    let result: AttemptResult = "unknown";
    try {
      const answer = await send();
      result = resultOf(answer, request.hasTime);
      return answer;
    } finally {
      circuit.end(attempt, result, { user: request.user, nowMs: performance.now() });
    }
  }
}

/** The answer where the circuit lets nothing pass. */
export function circuitOpen(circuit: Circuit, nowMs: number, user?: string): ServiceAnswer {
  return { kind: "circuit_open", retryAfterMs: circuit.retryAfterMs(nowMs, user) };
}

/** What an answer says of the service. */
export function resultOf(answer: ServiceAnswer, hasTime: boolean): AttemptResult {
  switch (answer.kind) {
    case "busy":
    case "circuit_open":
      return "unknown";
    case "unreachable":
    case "unanswered":
      return answer.fault === "service" || (answer.fault === "deadline" && hasTime) ? "failed" : "unknown";
    case "answered": {
      // A 503 with Retry-After comes from a service that works.
      const isPaused = answer.status === 503 && answer.retryAfterMs !== undefined;
      return answer.status >= 500 && !isPaused ? "failed" : "answered";
    }
    case "unreadable":
    case "answer_too_large":
      return "answered";
  }
}
