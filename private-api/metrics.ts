import type { Counter, Histogram, Metrics } from "../shared/metrics.ts";

export interface PrivateApiMetrics {
  publishes: Counter<"outcome">;
  upstreamAnswers: Counter<"outcome">;
  upstreamSeconds: Histogram;
}

export function createPrivateApiMetrics(metrics: Metrics, reads: { relayStreams: () => number }): PrivateApiMetrics {
  metrics.gauge("relay_streams", "Open streams of gateways", reads.relayStreams);
  return {
    publishes: metrics.counter("publishes_total", "Publishes, by outcome or error code", ["outcome"]),
    upstreamAnswers: metrics.counter("upstream_answers_total", "Requests to services, by what came of them", [
      "outcome",
    ]),
    upstreamSeconds: metrics.histogram("upstream_seconds", "Requests to services, waiting for a place included"),
  };
}
