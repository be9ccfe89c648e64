import { randomUUID } from "node:crypto";
import {
  type CallOutcome,
  interpretAnswer,
  interpretDeliveryAnswer,
  interpretWebhookAnswer,
  refused,
} from "../../shared/services/answers.ts";
import { socketSource } from "../../shared/services/cloudevents.ts";
import {
  type AnswerTaker,
  type ServiceAnswer,
  ServiceClient,
  type ServiceRequest,
} from "../../shared/services/service-client.ts";
import { parseJson } from "../../shared/json/json.ts";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import type * as protocol from "../../shared/protocol/relay.ts";
import { identityKey, type UserIdentity } from "../../shared/protocol/identity-key.ts";
import { pinnedCell } from "../../shared/queues/tenant-places.ts";
import type { CellMap } from "../../shared/redis/cell-map.ts";
import { slotOf } from "../../shared/redis/slots.ts";
import { serviceOf } from "../../shared/rules/route-target.ts";
import type { ItemHead } from "../../shared/queues/item-head.ts";
import { AnswerBudget } from "../../shared/services/answer-budget.ts";
import type { CurrentRules } from "../../shared/rules/current-rules.ts";
import type { ServiceOptions } from "../../shared/rules/rules.ts";
import type { ServiceSecrets } from "../../shared/rules/secrets.ts";
import type { Logger } from "../../shared/runtime/logging.ts";
import type { PrivateApiMetrics } from "../metrics/metrics.ts";
import { AnswerCounts } from "./answer-counts.ts";
import { connectDecision, subscribeDecision } from "./hook-answers.ts";
import { ServiceCircuits } from "./service-circuits.ts";
import { ServiceFailures } from "./service-failures.ts";
import { Shadows } from "./shadows.ts";

type EventRequest = Pick<ServiceRequest, "path" | "eventId" | "eventType" | "body"> &
  Partial<Pick<ServiceRequest, "headers" | "webhookId" | "source" | "time" | "cell">>;
type Question = Pick<ServiceRequest, "kind" | "identity" | "traceparent" | "timeoutMs">;

/** Of the service's `timeoutMs`: timeouts of a caller that waits less say nothing about the service. */
const enoughTime = 1 / 2;

/** What became of a question. */
interface Asked {
  outcome: CallOutcome;
  /** Undefined: the rules name no service for it. */
  sent?: { service: ServiceOptions; answer: ServiceAnswer; cause?: string | undefined };
  event: string;
  /** `ce-id` of the request. */
  id: string;
}

interface UpstreamOptions {
  rules: CurrentRules;
  /** Of the services of the rules in force, by service name. */
  secrets: () => ServiceSecrets;
  /** The map of cells in force. */
  cells: () => CellMap;
  metrics: PrivateApiMetrics;
  logger: Logger;
}

/** Turns questions of gateways and queued items into requests to services, by the rules in force. */
export class Upstream implements Service {
  readonly circuits = new ServiceCircuits();
  readonly failures: ServiceFailures;
  readonly #client = new ServiceClient();
  readonly #options: UpstreamOptions;
  readonly #shadows: Shadows;
  /** For the answers to deliveries, of which only the status counts. */
  readonly #deliveries = new AnswerBudget();
  readonly #counts: AnswerCounts;

  constructor(options: UpstreamOptions) {
    this.#options = options;
    this.failures = new ServiceFailures(options.logger);
    this.#counts = new AnswerCounts({
      counter: options.metrics.upstreamAnswers,
      onGone: (service) => this.failures.forget(service),
    });
    this.#shadows = new Shadows(options);
    this.circuits.listen((service, isOpen) => {
      if (isOpen) options.logger.warn({ service }, "a service fails: its circuit is open");
      else options.logger.info({ service }, "a service answers again: its circuit is closed");
    });
  }

  async start(): Promise<void> {
    await this.#client.start();
    await this.#shadows.start();
  }

  async stop(): Promise<void> {
    await this.#client.stop();
    await this.#shadows.stop();
  }

  /**
   * No failure of a service makes it reject.
   * @param data JSON text of a call.
   */
  async answer(question: protocol.RelayQuestion, data: string, taker: AnswerTaker): Promise<CallOutcome> {
    const from = performance.now();
    const { outcome, sent, event, id } = await this.#ask(question, data, taker);
    if (!sent) return outcome;
    const { service, answer, cause } = sent;
    const { kind, traceparent } = question;
    const request = { kind, service, event, id, traceparent, ms: performance.now() - from, cause };
    this.failures.note(request, outcome, { answer, rules: this.#options.rules.rules });
    return outcome.ok ? outcome : { ...outcome, error: { ...outcome.error, requestId: id } };
  }

  async #ask(question: protocol.RelayQuestion, data: string, taker: AnswerTaker): Promise<Asked> {
    switch (question.kind) {
      case "call":
        return this.#call(question, data, taker);
      case "webhook":
        return this.#webhook(question, data, taker);
      case "connect":
        return this.#askConnect(question, taker);
      case "subscribe":
        return this.#askSubscribe(question, taker);
    }
  }

  /**
   * Delivers a queued item once. Never rejects for what a service does.
   * @param item.headers those of its queue
   * @param isHeld false: its lease has ended, and it is not sent any more
   */
  async deliver(
    name: string,
    item: {
      /** Of its queue. */
      slot: number;
      head: ItemHead;
      body: string;
      encoding?: "base64";
      headers: Readonly<Record<string, string>>;
      webhookId: string;
    },
    isHeld: () => boolean,
  ): Promise<ServiceAnswer> {
    const service = this.#options.rules.rules.service(name);
    if (!service) return { kind: "busy" };
    const { slot, head, encoding, headers, webhookId } = item;
    const body = encoding === undefined ? item.body : Buffer.from(item.body, encoding);
    const { id, event, path, traceparent, user, tenant, sessionId, claims } = head;
    const part = this.#deliveries.part("deliveries", sessionId);
    const taker = {
      part,
      get isConnected() {
        return isHeld();
      },
    };
    const from = performance.now();
    try {
      const answer = await this.#send(
        service,
        {
          kind: "queued",
          identity: { user, sessionId, ...(tenant !== undefined && { tenant }), claims },
          traceparent,
          timeoutMs: service.timeoutMs,
        },
        {
          path,
          eventId: id,
          eventType: event,
          body,
          headers,
          webhookId,
          source: head.source,
          time: new Date(head.at),
          cell: this.#options.cells().owners[slot] ?? "",
        },
        taker,
      );
      const sent = { kind: "queued", service, event, id, traceparent, ms: performance.now() - from };
      this.failures.note(sent, interpretDeliveryAnswer(answer, name), { answer, rules: this.#options.rules.rules });
      return answer;
    } finally {
      part.release();
    }
  }

  async #call(call: protocol.RelayCall, data: string, taker: AnswerTaker): Promise<Asked> {
    const { event, eventId: id } = call;
    const routed = this.#route(call, { eventId: id, eventType: event, body: data }, taker);
    if (!routed) return { outcome: noRoute(event), event, id };
    const { service, answering } = routed;
    const answer = await answering;
    return { outcome: interpretAnswer(answer, service.name), sent: { service, answer }, event, id };
  }

  /** @param data the body, as a JSON string. */
  async #webhook(webhook: protocol.RelayWebhook, data: string, taker: AnswerTaker): Promise<Asked> {
    const { event, eventId: id, source, contentType } = webhook;
    const body = parseJson(data);
    if (typeof body !== "string") {
      return { outcome: refused("invalid_request", "the body of a webhook is not a JSON string"), event, id };
    }
    const headers = contentType === undefined ? {} : { "content-type": contentType };
    const request = { eventId: id, eventType: event, source, body, headers };
    const routed = this.#route({ ...webhook, kind: "call" }, request, taker);
    if (!routed) return { outcome: noRoute(event), event, id };
    const { service, answering } = routed;
    const answer = await answering;
    return { outcome: interpretWebhookAnswer(answer, service.name), sent: { service, answer }, event, id };
  }

  /** Sends the request to the service of the event's route, and to its shadow. Undefined: there is no such route. */
  #route(
    question: Question,
    given: Omit<EventRequest, "path">,
    taker: AnswerTaker,
  ): { service: ServiceOptions; answering: Promise<ServiceAnswer> } | undefined {
    const { rules } = this.#options.rules;
    const route = rules.route(given.eventType);
    const service = route && rules.service(serviceOf(route, question.identity));
    if (!service) return undefined;
    const request = { ...given, path: route.path.replaceAll("{event}", encodeURIComponent(given.eventType)) };
    const answering = this.#send(service, question, request, taker);
    const shadow = route.shadow === undefined ? undefined : rules.service(route.shadow);
    // A rollout may send the request to the shadow itself: one request is enough then.
    if (shadow && shadow !== service) {
      this.#shadows.send(this.#addressed(shadow, question, request), answering);
    }
    return { service, answering };
  }

  async #askConnect(question: protocol.RelayConnect, taker: AnswerTaker): Promise<Asked> {
    const { identity, address, userAgent } = question;
    const { sessionId, user, tenant, claims } = identity;
    const body = { sessionId, user, tenant, claims, address, userAgent };
    return this.#askHook(question, { body, decide: connectDecision }, taker);
  }

  async #askSubscribe(question: protocol.RelaySubscribe, taker: AnswerTaker): Promise<Asked> {
    const { identity, channel } = question;
    const { sessionId, user, tenant, claims } = identity;
    const body = { sessionId, user, tenant, claims, channel };
    return this.#askHook(question, { body, decide: (answer) => subscribeDecision(answer, channel) }, taker);
  }

  async #askHook(
    question: protocol.RelayConnect | protocol.RelaySubscribe,
    { body, decide }: { body: Record<string, unknown>; decide: (answer: ServiceAnswer) => CallOutcome },
    taker: AnswerTaker,
  ): Promise<Asked> {
    const { kind: hook, eventId: id = randomUUID() } = question;
    const event = `tidegate.${hook}`;
    const service = this.#options.rules.rules.hook(hook);
    // Switched off after the gateway asked: the gateway asks again by the newer rules.
    if (!service)
      return { outcome: decide({ kind: "unreachable", reason: "the hook is off", fault: "own" }), event, id };
    const request = { path: `/tidegate/${hook}`, eventId: id, eventType: event, body: JSON.stringify(body) };
    const answer = await this.#send(service, question, request, taker);
    // To the client a hook says only that it gave no decision.
    const told = interpretAnswer(answer, service.name);
    const cause = told.ok ? undefined : told.error.message;
    return { outcome: decide(answer), sent: { service, answer, cause }, event, id };
  }

  async #send(
    service: ServiceOptions,
    question: Question,
    request: EventRequest,
    answer: AnswerTaker,
  ): Promise<ServiceAnswer> {
    const send = async (): Promise<ServiceAnswer> => {
      const stopTimer = this.#options.metrics.upstreamSeconds.startTimer();
      const answered = await this.#client.send({ ...this.#addressed(service, question, request), answer });
      stopTimer();
      return answered;
    };
    const { kind, identity, timeoutMs } = question;
    // A route that fails must keep no client from connecting.
    const isHook = kind === "connect" || kind === "subscribe";
    const caller = { user: identityKey(identity), hasTime: timeoutMs >= service.timeoutMs * enoughTime };
    const answered = isHook ? await send() : await this.circuits.guard(service, caller, send);
    this.#counts.count(service.name, answered, this.#options.rules.rules);
    return answered;
  }

  #addressed(service: ServiceOptions, question: Question, request: EventRequest): Omit<ServiceRequest, "answer"> {
    const secrets = this.#options.secrets().get(service.name);
    if (!secrets) throw new Error(`the rules in force have no secret for ${service.name}`);
    return {
      source: socketSource,
      cell: cellOfIdentity(this.#options.cells(), question.identity),
      ...request,
      kind: question.kind,
      service,
      secrets,
      identity: question.identity,
      traceparent: question.traceparent,
      timeoutMs: Math.min(question.timeoutMs, service.timeoutMs),
    };
  }
}

function noRoute(event: string): CallOutcome {
  return refused("no_route", `no route for "${event}"`);
}

/** That of its tenant's pin; without one that of the user's slot. */
function cellOfIdentity(map: CellMap, identity: UserIdentity): string {
  return pinnedCell(map, identity.tenant ?? "") ?? map.owners[slotOf(identityKey(identity))] ?? "";
}
