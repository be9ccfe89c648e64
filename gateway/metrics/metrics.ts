import { doorCounter } from "../../shared/http/door-counter.ts";
import type { Dimensions } from "../../shared/load/dimensions.ts";
import type { Counters, Histogram, Metrics } from "../../shared/runtime/metrics.ts";

/** Metric name, help text, labels. */
const counters = {
  ...doorCounter,
  connects: ["connects_total", "Handshakes: accepted, or the refusal code", "outcome"],
  disconnects: ["disconnects_total", "Ended sessions: code, moved, ping_timeout or client", "reason"],
  deliveries: ["deliveries_total", "Publications handed to connections"],
  historyReads: ["history_reads_total", "Reads of channel history: align, recover or compare", "kind"],
  recoveries: ["recoveries_total", "Subscribes with a position: tail, history, or why recovery failed", "outcome"],
  resyncs: ["resyncs_total", "Followers sent sync:resync because history has a gap", "reason"],
  calls: ["calls_total", "Calls: ok, or the error code", "outcome"],
  queued: ["queued_total", "Events on enqueue routes: stored, duplicate, refused or dropped", "outcome"],
  sessionEvents: [
    "session_events_total",
    "Session events stored for their service: connected or disconnected",
    "event",
  ],
  resumes: ["resumes_total", "Presented resume tokens, by outcome", "outcome"],
  announcements: ["session_announcements_total", "Sessions announced again to the session store", "outcome"],
  sweptNodes: ["swept_nodes_total", "Dead nodes whose leases this node swept, each pass counted"],
  requests: ["requests_total", "Requests of the gateway's own protocol", "request", "outcome"],
  slowConsumers: [
    "slow_consumers_total",
    "Connections closed because too much waited (bytes), or the client read nothing for too long (stalled)",
    "cause",
  ],
  conflated: ["conflated_total", "Publications replaced by newer ones while waiting"],
  movesAsked: ["moves_asked_total", "Drain orders sent to sessions, repeats included", "cause"],
  drainedSessions: [
    "drained_sessions_total",
    "Sessions present when the drain began: moved, closed, forced, lost or left",
    "outcome",
  ],
  admitted: ["admissions_total", "Handshakes admitted to be checked: resume or cold", "kind"],
  upgradesRefused: ["upgrades_refused_total", "Connections answered 503 before they were opened"],
  limited: ["limited_total", "Messages refused because the connection sent too many", "kind"],
  floods: [
    "floods_total",
    "Connections cut for sending too much: entering (before a session), closing (after the close), messages, controls, connects, packets, bytes or data",
    "cause",
  ],
  hooks: [
    "webhooks_total",
    "Webhooks: accepted, duplicate, dropped (parts), challenge, answered (by a service), journaled, or the code of the refusal",
    "source",
    "outcome",
  ],
  journalItems: [
    "journal_items_total",
    "Items of webhooks: written to the journal, refused by it, replayed, or duplicate (the queue had it)",
    "outcome",
  ],
  bootstraps: ["bootstraps_total", "Bootstrap answers: node, group (its own address), or the refusal code", "outcome"],
} as const;

/** Gauges by metric name, each with its help text. */
const gauges = {
  sessions: "Sessions on this node",
  sessions_waiting: "Sessions with frames waiting to be sent",
  channels_followed: "Channels with a follower on this node",
  calls_pending: "Calls waiting for their answer",
  outbox_bytes: "Bytes waiting to be sent to clients",
  outbox_largest_bytes: "Bytes waiting for the slowest client",
  webhook_bytes: "Bytes of webhooks that arrive or are being stored",
  journal_bytes: "Bytes of the journal of webhooks on the disk",
  journal_items: "Items of the journal that are not in the queues yet",
  journal_oldest_seconds: "About how long the oldest of these has waited",
  tail_bytes: "Approximate memory used by the tails of followed channels",
  seats: "Sessions, and handshakes that wait or are being checked",
  handshakes_waiting: "Handshakes waiting to be admitted",
  upgrades_waiting: "Connections waiting to be opened",
  private_apis_connected: "Private API addresses with an open relay stream",
  rules_version: "Version of the rules in force; 0 before the first",
  rollouts_version: "Version of the rollouts in force; 0 before the first",
  load_factor: "How full this node is: 1.0 is at target",
};

export interface GatewayMetrics extends Counters<typeof counters> {
  callSeconds: Histogram;
  admissionWait: Histogram<"kind">;
  hookSeconds: Histogram<"source">;
  /** Adds gauges, read at each scrape. */
  observe(reads: Partial<Record<keyof typeof gauges, () => number>>): void;
  /** Adds one gauge per load dimension, read at each scrape. */
  observeDimensions(read: () => Dimensions): void;
}

export function createGatewayMetrics(metrics: Metrics): GatewayMetrics {
  return {
    ...metrics.counters(counters),
    callSeconds: metrics.histogram("call_seconds", "From a client's event to its ack"),
    admissionWait: metrics.histogram("admission_wait_seconds", "From a handshake to its admission", ["kind"]),
    hookSeconds: metrics.histogram("webhook_seconds", "From a webhook's head to its answer", ["source"]),
    observe: (reads) => {
      for (const [name, read] of Object.entries(reads)) metrics.gauge(name, gauges[name as keyof typeof gauges], read);
    },
    observeDimensions: (read) => {
      metrics.gauges(
        "load_dimension",
        "Used by allowed, for each resource this node can run out of",
        "dimension",
        read,
      );
    },
  };
}
