import { randomUUID } from "node:crypto";
import { type CallOutcome, interpretAnswer, refused } from "../../shared/http/answers.ts";
import { type ServiceAnswer, ServiceClient, type ServiceRequest } from "../../shared/http/service-client.ts";
import { parseJson } from "../../shared/json.ts";
import type { Service } from "../../shared/lifecycle.ts";
import {
  type HookGrant,
  hookGrantValidator,
  isPresentableInfo,
  type RelayCall,
  type RelayConnect,
  type RelayQuestion,
  type RelaySubscribe,
} from "../../shared/protocol/relay.ts";
import { serviceOf } from "../../shared/rollouts/route-target.ts";
import type { CurrentRules } from "../../shared/rules/current-rules.ts";
import type { ServiceOptions } from "../../shared/rules/rules.ts";
import type { ServiceSecrets } from "../../shared/rules/secrets.ts";
import type { Logger } from "../../shared/logging.ts";
import type { PrivateApiMetrics } from "../metrics.ts";
import { Shadows } from "./shadows.ts";

const source = "/tidegate/socket";

type EventRequest = Pick<ServiceRequest, "path" | "eventId" | "eventType" | "body">;

/** Turns questions of a gateway into requests to services, by the rules in force. */
export class Upstream implements Service {
  readonly #client = new ServiceClient();
  readonly #rules: CurrentRules;
  readonly #secrets: () => ServiceSecrets;
  readonly #metrics: PrivateApiMetrics;
  readonly #shadows: Shadows;

  /** @param options.secrets of the services of the rules in force, by service name. */
  constructor(options: {
    rules: CurrentRules;
    secrets: () => ServiceSecrets;
    metrics: PrivateApiMetrics;
    logger: Logger;
  }) {
    this.#rules = options.rules;
    this.#secrets = options.secrets;
    this.#metrics = options.metrics;
    this.#shadows = new Shadows(options);
  }

  async start(): Promise<void> {
    await this.#client.start();
    await this.#shadows.start();
  }

  async stop(): Promise<void> {
    await this.#client.stop();
    await this.#shadows.stop();
  }

  /** Never rejects for what a service does. */
  async answer(question: RelayQuestion): Promise<CallOutcome> {
    switch (question.kind) {
      case "call":
        return this.#call(question);
      case "connect":
        return this.#askConnect(question);
      case "subscribe":
        return this.#askSubscribe(question);
    }
  }

  async #call(call: RelayCall): Promise<CallOutcome> {
    const { rules } = this.#rules;
    const route = rules.route(call.event);
    const service = route && rules.service(serviceOf(route, call.identity));
    if (!service) return refused("no_route", `no route for "${call.event}"`);
    const request = {
      path: route.path.replaceAll("{event}", encodeURIComponent(call.event)),
      eventId: call.eventId,
      eventType: call.event,
      body: JSON.stringify(call.data),
    };
    const answering = this.#send(service, call, request);
    const shadow = route.shadow === undefined ? undefined : rules.service(route.shadow);
    // Rolled out to its shadow, it is asked once.
    if (shadow && shadow !== service) this.#shadows.send(this.#addressed(shadow, call, request), answering);
    return interpretAnswer(await answering, service.name);
  }

  async #askConnect(question: RelayConnect): Promise<CallOutcome> {
    const { identity, address, userAgent } = question;
    const { sessionId, user, tenant, claims } = identity;
    const answer = await this.#askHook("connect", question, { sessionId, user, tenant, claims, address, userAgent });
    if (answer.kind === "answered") {
      const grant = isSuccess(answer.status) ? readGrant(answer.body) : undefined;
      if (grant) return { ok: true, data: grant };
      if (answer.status === 401 || answer.status === 403) return hookRefusal("forbidden", "the connect hook refused");
    }
    return hookRefusal("auth_unavailable", "the connect hook did not decide");
  }

  async #askSubscribe(question: RelaySubscribe): Promise<CallOutcome> {
    const { identity, channel } = question;
    const { sessionId, user, tenant, claims } = identity;
    const answer = await this.#askHook("subscribe", question, { sessionId, user, tenant, claims, channel });
    if (answer.kind === "answered") {
      const grant = isSuccess(answer.status) ? readGrant(answer.body) : undefined;
      if (grant) return { ok: true, data: grant.info === undefined ? {} : { info: grant.info } };
      if (answer.status === 403) return refused("channel_not_allowed", `the subscribe hook does not allow ${channel}`);
    }
    return refused("upstream_unavailable", "the subscribe hook did not decide");
  }

  async #askHook(
    hook: "connect" | "subscribe",
    question: RelayQuestion,
    body: Record<string, unknown>,
  ): Promise<ServiceAnswer> {
    const service = this.#rules.rules.hook(hook);
    // Switched off since the gateway asked: it asks again by the newer rules.
    if (!service) return { kind: "unreachable", reason: "the hook is off" };
    return this.#send(service, question, {
      path: `/tidegate/${hook}`,
      eventId: randomUUID(),
      eventType: `tidegate.${hook}`,
      body: JSON.stringify(body),
    });
  }

  async #send(service: ServiceOptions, question: RelayQuestion, request: EventRequest): Promise<ServiceAnswer> {
    const stopTimer = this.#metrics.upstreamSeconds.startTimer();
    const answer = await this.#client.send(this.#addressed(service, question, request));
    stopTimer();
    this.#metrics.upstreamAnswers.inc({
      outcome: answer.kind === "answered" ? `${Math.floor(answer.status / 100)}xx` : answer.kind,
    });
    return answer;
  }

  #addressed(service: ServiceOptions, question: RelayQuestion, request: EventRequest): ServiceRequest {
    const secrets = this.#secrets().get(service.name);
    if (!secrets) throw new Error(`the rules in force have no secret for ${service.name}`);
    return {
      ...request,
      service,
      secrets,
      source,
      identity: question.identity,
      traceparent: question.traceparent,
      timeoutMs: Math.min(question.timeoutMs, service.timeoutMs),
    };
  }
}

/** No body, or a JSON object as hooks answer; undefined for anything else, such as the page of a proxy in between. */
function readGrant(body: string): HookGrant | undefined {
  const answered = body.trim() === "" ? {} : parseJson(body);
  if (!hookGrantValidator.Check(answered)) return undefined;
  const { channels, info } = answered;
  if (info !== undefined && !isPresentableInfo(info)) return undefined;
  return { ...(channels && { channels }), ...(info !== undefined && { info }) };
}

function isSuccess(status: number): boolean {
  return status >= 200 && status < 300;
}

/** A refusal of a connection; its code is for the handshake. */
function hookRefusal(code: "forbidden" | "auth_unavailable", message: string): CallOutcome {
  return { ok: false, error: { code, message, retryable: code === "auth_unavailable" } };
}
