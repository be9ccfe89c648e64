/** First step of a gateway node: what it knows and holds, before any door opens. */
import { randomUUID } from "node:crypto";
import type { OpenStores } from "../shared/program/stores.ts";
import { CurrentRollouts } from "../shared/rollouts/current-rollouts.ts";
import { CurrentRules } from "../shared/rules/current-rules.ts";
import type { Rules } from "../shared/rules/rules.ts";
import type { Logger } from "../shared/runtime/logging.ts";
import { Metrics } from "../shared/runtime/metrics.ts";
import { openFilesLimit } from "../shared/runtime/open-files.ts";
import type { Environment } from "../shared/runtime/settings.ts";
import type { QueueStore } from "../shared/queues/contract.ts";
import { WaitingQuota } from "../shared/queues/quota.ts";
import { maxProfileSecrets } from "../shared/protocol/relay.ts";
import { SessionEvents } from "../shared/queues/session-events.ts";
import { createVerifier, type Verifier } from "../shared/tokens/jwt.ts";
import { secretId } from "../shared/tokens/sealing.ts";
import { type Capacity, capacityOf } from "./capacity.ts";
import { FollowedChannels } from "./channels/followed-channels.ts";
import { onUserMessage } from "./commands/user-commands.ts";
import type { GatewayConfig } from "./config.ts";
import type { Liveness } from "./engine/liveness.ts";
import { FleetMember } from "./fleet/fleet-member.ts";
import { createGatewayMetrics, type GatewayMetrics } from "./metrics/metrics.ts";
import { DrainProgress } from "./moving/drain-progress.ts";
import { Sources } from "./hooks/sources.ts";
import { Journal } from "./journal/journal.ts";
import { JournaledQueues } from "./journal/journaled-queues.ts";
import { journalDirectory } from "./journal/node-directory.ts";
import type { GatewayContext } from "./node/context.ts";
import { RelayClient } from "./relay/relay-client.ts";
import { Grants } from "./sessions/grant.ts";
import { NodeHoldings } from "./sessions/node-holdings.ts";
import { Presence } from "./sessions/presence.ts";
import { ResumeTokens } from "./sessions/resume-token.ts";
import { Sessions } from "./sessions/sessions.ts";
import { revokeWithdrawn } from "./subscriptions/end.ts";

type GatewayStores = Pick<
  OpenStores,
  | "broker"
  | "rulesStore"
  | "rolloutsStore"
  | "sessionStore"
  | "queues"
  | "nodeRegistry"
  | "inventory"
  | "cellMaps"
  | "errors"
>;

/** The caller starts the stores before the gateway, and stops them after it. */
export interface GatewayOptions extends GatewayStores {
  config: GatewayConfig;
  /** Holds the secrets of webhook sources, which the rules refer to as `env:NAME`. */
  environment: Environment;
  logger: Logger;
  /** Default: `defaultLiveness`. */
  liveness?: Liveness;
}

export interface NodeState {
  readonly context: GatewayContext;
  readonly capacity: Capacity;
  readonly currentRollouts: CurrentRollouts;
  readonly sessionEvents: SessionEvents;
  /** Of webhooks. */
  readonly sources: Sources;
  /** Of webhooks; undefined without JOURNAL_DIR. */
  readonly journal: JournaledQueues | undefined;
  readonly drainProgress: DrainProgress;
  /** Of this process: a restarted node is another instance. */
  readonly instance: string;
  /** Unix ms. */
  readonly startedAt: number;
  readonly metricsRegistry: Metrics;
}

export function createNodeState(options: GatewayOptions): NodeState {
  const { config, broker, sessionStore, errors, logger } = options;
  const node = config.GATEWAY_NODE;
  const instance = randomUUID();
  const metricsRegistry = new Metrics();
  errors.addTo(metricsRegistry);
  const metrics = createGatewayMetrics(metricsRegistry);
  const { sources, currentRules, currentRollouts } = createDocuments(options, metrics);
  const channels = new FollowedChannels({ broker, rules: currentRules, errors, logger, metrics });
  metrics.observe({ channels_followed: () => channels.channelCount, tail_bytes: () => channels.tailBytes });
  const sessions = createSessions(options, metrics);
  const sessionEvents = new SessionEvents({
    store: sessionStore,
    queues: options.queues,
    rules: () => currentRules.rules,
    onStored: (kind) => metrics.sessionEvents.inc({ event: kind }),
    errors,
    logger,
  });
  const holdings = new NodeHoldings({ store: sessionStore, node, sessions, events: sessionEvents, metrics, logger });
  const sealingSecrets = config.RESUME_SECRET ?? ([config.PRIVATE_API_TOKEN] as const);
  const context: GatewayContext = {
    node,
    verify: verifierOf(options),
    currentRules,
    broker,
    relay: createRelay(options, { instance, sealingSecrets }, metrics),
    channels,
    sessions,
    sessionStore,
    queues: options.queues,
    quotas: createQuotas(options.queues, currentRules),
    holdings,
    presence: new Presence({ holdings, rules: currentRules }),
    fleet: new FleetMember({
      registry: options.nodeRegistry,
      instance,
      budgetPerSecond: config.GATEWAY_ADMISSIONS_PER_SECOND,
      errors,
      logger,
    }),
    resumeTokens: new ResumeTokens(sealingSecrets),
    grants: new Grants(sealingSecrets),
    messagesPerSecond: config.GATEWAY_MESSAGES_PER_SECOND,
    errors,
    metrics,
    logger,
  };
  holdings.onWithdrawn((session) => revokeWithdrawn(session, context));
  listenToBroker(context);
  const drainProgress = new DrainProgress((outcome) => metrics.drainedSessions.inc({ outcome }));
  const capacity = readCapacity(config.GATEWAY_MAX_CONNECTIONS, logger);
  const parts = { context, capacity, currentRollouts, sessionEvents, sources, drainProgress };
  const journal = createJournal(options, metrics);
  return { ...parts, journal, instance, startedAt: Date.now(), metricsRegistry };
}

/** Bytes that wait to be sent to all clients of a node. */
export function queuedBytes(sessions: Sessions): number {
  return sessions.all.reduce((sum, { outbox }) => sum + outbox.bytes, 0);
}

/** The documents in force, and the sources of webhooks that the rules name. */
function createDocuments(
  { config, environment, rulesStore, rolloutsStore, errors, logger }: GatewayOptions,
  metrics: GatewayMetrics,
): Pick<NodeState, "sources" | "currentRollouts"> & { currentRules: CurrentRules } {
  const sources = new Sources({ environment, hasJournal: config.JOURNAL_DIR !== undefined, logger });
  const accept = (rules: Rules): void => sources.use(rules);
  const currentRules = new CurrentRules({ store: rulesStore, errors, logger, accept });
  const currentRollouts = new CurrentRollouts({ store: rolloutsStore, errors, logger });
  metrics.observe({
    rules_version: () => currentRules.rules.version,
    rollouts_version: () => currentRollouts.rollouts.version,
  });
  return { sources, currentRules, currentRollouts };
}

function createSessions({ broker, logger }: GatewayOptions, metrics: GatewayMetrics): Sessions {
  const sessions = new Sessions({ broker, logger });
  metrics.observe({
    sessions: () => sessions.count,
    sessions_waiting: () => sessions.all.filter(({ outbox }) => outbox.bytes > 0).length,
    outbox_bytes: () => queuedBytes(sessions),
    outbox_largest_bytes: () => sessions.all.reduce((most, { outbox }) => Math.max(most, outbox.bytes), 0),
  });
  return sessions;
}

function createQuotas(queues: QueueStore, currentRules: CurrentRules): GatewayContext["quotas"] {
  return {
    tenant: new WaitingQuota({
      limit: () => currentRules.rules.quotas.perTenant,
      waiting: async (tenant) => queues.waiting(tenant, [...currentRules.rules.classes.keys()]),
    }),
    source: new WaitingQuota({
      limit: () => currentRules.rules.quotas.perSource,
      waiting: async (source) => queues.waitingOfSource(source),
    }),
  };
}

function createJournal(
  { config, queues, errors, logger }: GatewayOptions,
  metrics: GatewayMetrics,
): JournaledQueues | undefined {
  const { JOURNAL_DIR, JOURNAL_MAX_BYTES: maxBytes, GATEWAY_NODE } = config;
  if (JOURNAL_DIR === undefined) return undefined;
  const journal = new Journal({ directory: journalDirectory(JOURNAL_DIR, GATEWAY_NODE), maxBytes, logger });
  metrics.observe({
    journal_bytes: () => journal.bytes,
    journal_items: () => journal.items,
    journal_oldest_seconds: () => journal.oldestMs / 1_000,
  });
  return new JournaledQueues({ journal, queues, counter: metrics.journalItems, errors, logger });
}

function createRelay(
  { config, errors, logger }: GatewayOptions,
  { instance, sealingSecrets }: { instance: string; sealingSecrets: readonly string[] },
  metrics: GatewayMetrics,
): RelayClient {
  const relay = new RelayClient({
    addresses: config.PRIVATE_API_URL,
    token: config.PRIVATE_API_TOKEN,
    node: config.GATEWAY_NODE,
    profile: {
      instance,
      maxConnections: config.GATEWAY_MAX_CONNECTIONS,
      resumeSecrets: sealingSecrets.slice(0, maxProfileSecrets).map(secretId),
      jwtSecrets: (config.AUTH_JWT_SECRET ?? []).slice(0, maxProfileSecrets).map(secretId),
    },
    burst: 2 * config.GATEWAY_MESSAGES_PER_SECOND,
    errors,
    logger,
  });
  metrics.observe({ calls_pending: () => relay.pendingCount, private_apis_connected: () => relay.openLinks });
  return relay;
}

function verifierOf({ config, logger }: GatewayOptions): Verifier {
  return createVerifier({
    secrets: config.AUTH_JWT_SECRET,
    jwksUrl: config.AUTH_JWKS_URL,
    issuer: config.AUTH_ISSUER,
    audience: config.AUTH_AUDIENCE,
    logger,
  });
}

function listenToBroker(context: GatewayContext): void {
  const { broker, channels, sessions, holdings, errors } = context;
  const { onPublication, onEphemeral, onRestored } = channels.listener;
  broker.listen({
    onPublication: errors.guarded("store", onPublication),
    onEphemeral: errors.guarded("store", onEphemeral),
    onUserMessage: errors.guarded("store", (user, message) => onUserMessage(user, message, context)),
    onRestored: () => {
      errors.contain("store", onRestored);
      errors.contain("store", () => sessions.onRestored());
      errors.contain("store", () => holdings.onRestored());
    },
  });
}

/** Warns where the limit of open files is too low for the wanted connections. */
function readCapacity(wantedConnections: number, logger: Logger): Capacity {
  const limit = openFilesLimit();
  const capacity = capacityOf(wantedConnections, limit);
  const { wantedFiles: needed, maxConnections, maxUnseated } = capacity;
  if (needed > limit) {
    logger.warn(
      { limit, needed, maxConnections, maxUnseated },
      "the limit of open files is too low for GATEWAY_MAX_CONNECTIONS: raise it (ulimit -n, LimitNOFILE) or lower the setting",
    );
  }
  return capacity;
}
