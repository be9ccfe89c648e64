import type { DispatcherRegistry } from "../../shared/dispatchers/contract.ts";
import {
  endpointClass,
  endpointPolicy,
  endpointService,
  endpointSource,
  isEndpointService,
} from "../../shared/endpoints/endpoint.ts";
import type { QueueStore } from "../../shared/queues/contract.ts";
import type { CurrentRules } from "../../shared/rules/current-rules.ts";
import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import type { Tally } from "../../shared/runtime/metrics.ts";
import type { Logger } from "../../shared/runtime/logging.ts";
import type { PrivateApiMetrics } from "../metrics/metrics.ts";
import type { ChangeDispatcher } from "../endpoints/change-queue.ts";
import type { EndpointDeliveries } from "../endpoints/endpoint-deliveries.ts";
import type { Upstream } from "../upstream/upstream.ts";
import type { DispatchOutcome } from "./deliverer.ts";
import { queueHeaders } from "./delivery.ts";
import { Dispatcher } from "./dispatcher.ts";
import { LoadReporter } from "./load-reporter.ts";
import { storeFailures } from "./store-failure.ts";
import { Workers } from "./workers.ts";

/** A dispatcher that delivers by the rules in force, and reports its load. */
export function createDispatcher(options: {
  config: {
    DISPATCH_CONCURRENCY: number;
    DISPATCH_CLASSES: readonly string[] | undefined;
    PRIVATE_API_STOP_SECONDS: number;
  };
  queues: QueueStore;
  registry: DispatcherRegistry;
  currentRules: CurrentRules;
  upstream: Upstream;
  endpoints: EndpointDeliveries;
  metrics: PrivateApiMetrics;
  errors: ContainedErrors;
  logger: Logger;
}): Service & ChangeDispatcher {
  const { config, currentRules, upstream, endpoints, metrics, errors, logger } = options;
  const classes = config.DISPATCH_CLASSES;
  const onStoreFailure = (slots: number): void => metrics.queueStoreFailures.inc(slots);
  const reporter = new LoadReporter({
    registry: options.registry,
    placesInUse: (nowMs) => dispatcher.placesInUse(nowMs),
    errors,
    report: storeFailures({ onStoreFailure, errors, logger }),
  });
  /** Of all endpoints together: they are too many for a label. */
  const ofEndpoints = new Map<DispatchOutcome, Tally>();
  const tallyOf = (className: string, service: string, outcome: DispatchOutcome): Tally => {
    if (!isEndpointService(service)) return metrics.deliveries({ class: className, service, outcome });
    const known = ofEndpoints.get(outcome);
    if (known) return known;
    const tally = metrics.deliveries({ class: endpointClass, service: endpointClass, outcome });
    ofEndpoints.set(outcome, tally);
    return tally;
  };
  const dispatcher = new Dispatcher({
    store: options.queues,
    workers: new Workers({
      total: config.DISPATCH_CONCURRENCY,
      classes: () => currentRules.rules.classes,
      ...(classes && { only: new Set(classes) }),
    }),
    service: (name) => {
      if (isEndpointService(name)) return endpoints.known(name);
      const { rules } = currentRules;
      const service = rules.service(name);
      if (!service) return undefined;
      const { maxInFlight } = service;
      return { maxInFlight, maxBatch: rules.largestBatch(name), circuit: upstream.circuits.of(service) };
    },
    policy: (head) => (head.source === endpointSource ? endpointPolicy : currentRules.rules.queuePolicy(head)),
    send: (service, delivery, isHeld) =>
      isEndpointService(service)
        ? endpoints.deliver(service, delivery)
        : upstream.deliver(service, { ...delivery, headers: queueHeaders(delivery) }, isHeld),
    onOutcome: (className, service, outcome) => {
      tallyOf(className, service, outcome).count++;
    },
    onFirstAttempt: (ageMs) => reporter.tried(ageMs),
    stopMs: (config.PRIVATE_API_STOP_SECONDS * 1_000) / 2,
    onStoreFailure,
    errors,
    logger,
  });
  for (const circuits of [upstream.circuits, endpoints.circuits]) {
    circuits.listen((_service, isOpen) => {
      if (!isOpen) dispatcher.claimSoon();
    });
    circuits.onHeard(() => dispatcher.claimSoon());
  }
  endpoints.listen((id, isGone) => {
    if (isGone) dispatcher.forget(endpointService(id));
    dispatcher.claimSoon();
  });
  return {
    enqueue: (item, after) => dispatcher.enqueue(item, after),
    nextSpare: () => dispatcher.nextSpare(),
    start: async () => {
      await dispatcher.start();
      await reporter.start();
    },
    stop: async () => {
      await reporter.stop();
      await dispatcher.stop();
    },
  };
}
