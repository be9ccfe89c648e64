import { createDoorCounter, type DoorCounter } from "../../shared/http/door-counter.ts";
import type { Dimensions } from "../../shared/load/dimensions.ts";
import type { Counter, Histogram, Metrics } from "../../shared/runtime/metrics.ts";

export interface GatewayMetrics {
  connects: Counter<"outcome">;
  disconnects: Counter<"reason">;
  deliveries: Counter;
  historyReads: Counter<"kind">;
  recoveries: Counter<"outcome">;
  resyncs: Counter<"reason">;
  calls: Counter<"outcome">;
  callSeconds: Histogram;
  resumes: Counter<"outcome">;
  announcements: Counter<"outcome">;
  sweptNodes: Counter;
  requests: Counter<"request" | "outcome">;
  slowConsumers: Counter<"cause">;
  conflated: Counter;
  movesAsked: Counter<"cause">;
  drainedSessions: Counter<"outcome">;
  admitted: Counter<"kind">;
  admissionWait: Histogram<"kind">;
  upgradesRefused: Counter;
  limited: Counter<"kind">;
  floods: Counter<"cause">;
  bootstraps: Counter<"outcome">;
  doorClosed: DoorCounter;
}

/** Reads that are made when the metrics are scraped. */
export interface GatewayReads {
  sessions: () => number;
  channels: () => number;
  pendingCalls: () => number;
  outboxBytes: () => number;
  tailBytes: () => number;
  largestOutboxBytes: () => number;
  waitingSessions: () => number;
  loadFactor: () => number;
  dimensions: () => Dimensions;
  seats: () => number;
  waitingHandshakes: () => number;
  waitingUpgrades: () => number;
}

export function createGatewayMetrics(metrics: Metrics, reads: GatewayReads): GatewayMetrics {
  metrics.gauge("sessions", "Sessions on this node", reads.sessions);
  metrics.gauge("channels_followed", "Channels with a follower on this node", reads.channels);
  metrics.gauge("calls_pending", "Calls without an answer yet", reads.pendingCalls);
  metrics.gauge("outbox_bytes", "Bytes that wait to be sent to clients", reads.outboxBytes);
  metrics.gauge("tail_bytes", "Memory of the tails of followed channels, roughly", reads.tailBytes);
  metrics.gauge("outbox_largest_bytes", "Bytes that wait for the slowest client", reads.largestOutboxBytes);
  metrics.gauge("sessions_waiting", "Sessions for which anything waits to be sent", reads.waitingSessions);
  metrics.gauge("load_factor", "How full this node is: 1.0 is at target", reads.loadFactor);
  metrics.gauges("load_dimension", "Used by allowed, of what this node can run out of", "dimension", reads.dimensions);
  metrics.gauge("seats", "Sessions, and handshakes that wait or are checked", reads.seats);
  metrics.gauge("handshakes_waiting", "Handshakes that wait to be let in", reads.waitingHandshakes);
  metrics.gauge("upgrades_waiting", "Connections that wait to be opened", reads.waitingUpgrades);
  return {
    connects: metrics.counter("connects_total", "Handshakes, by accepted or the code of the refusal", ["outcome"]),
    disconnects: metrics.counter("disconnects_total", "Sessions that ended, by code, ping_timeout or client", [
      "reason",
    ]),
    deliveries: metrics.counter("deliveries_total", "Publications handed to connections"),
    historyReads: metrics.counter("history_reads_total", "Reads of a channel's history: align, recover or compare", [
      "kind",
    ]),
    recoveries: metrics.counter(
      "recoveries_total",
      "Subscribes with a position: answered from tail or history, or why not",
      ["outcome"],
    ),
    resyncs: metrics.counter("resyncs_total", "Followers told that history cannot bridge", ["reason"]),
    calls: metrics.counter("calls_total", "Calls, by ok or error code of the contract", ["outcome"]),
    callSeconds: metrics.histogram("call_seconds", "From a client's event to its ack"),
    resumes: metrics.counter("resumes_total", "Resume tokens presented, by what became of them", ["outcome"]),
    announcements: metrics.counter("session_announcements_total", "Sessions told to the store again, by its answer", [
      "outcome",
    ]),
    sweptNodes: metrics.counter("swept_nodes_total", "Nodes whose leftovers this one removed, each pass counted"),
    requests: metrics.counter("requests_total", "Requests of the gateway's own protocol", ["request", "outcome"]),
    slowConsumers: metrics.counter(
      "slow_consumers_total",
      "Connections closed because too much waited (bytes), or nothing was taken for too long (stalled)",
      ["cause"],
    ),
    movesAsked: metrics.counter(
      "moves_asked_total",
      "Slots told to sessions to go on elsewhere, those told again included",
      ["cause"],
    ),
    drainedSessions: metrics.counter(
      "drained_sessions_total",
      "Sessions that were here when the node began to drain: moved, closed, forced, lost or left",
      ["outcome"],
    ),
    bootstraps: metrics.counter(
      "bootstraps_total",
      "Answers to where to connect: a node, an address of the group's own, or the code of the refusal",
      ["outcome"],
    ),
    conflated: metrics.counter("conflated_total", "Publications replaced by newer ones while they waited"),
    doorClosed: createDoorCounter(metrics),
    admitted: metrics.counter("admissions_total", "Handshakes let in to be checked: resume or cold", ["kind"]),
    admissionWait: metrics.histogram("admission_wait_seconds", "From a handshake until it was let in", ["kind"]),
    upgradesRefused: metrics.counter("upgrades_refused_total", "Connections answered 503 before they were opened"),
    floods: metrics.counter(
      "floods_total",
      "Connections cut because they sent too much: entering (before a session), closing (after it was closed), messages, controls, connects, packets or bytes",
      ["cause"],
    ),
    limited: metrics.counter("limited_total", "Messages refused because their connection sent too many", ["kind"]),
  };
}
