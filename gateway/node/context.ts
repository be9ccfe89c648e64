import type { ChannelBroker } from "../../shared/channels/contract.ts";
import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import type { Verifier } from "../../shared/tokens/jwt.ts";
import type { Logger } from "../../shared/runtime/logging.ts";
import type { CurrentRules } from "../../shared/rules/current-rules.ts";
import type { QueueStore } from "../../shared/queues/contract.ts";
import type { WaitingQuota } from "../../shared/queues/quota.ts";
import type { SessionStore } from "../../shared/sessions/contract.ts";
import type { FleetMember } from "../fleet/fleet-member.ts";
import type { FollowedChannels } from "../channels/followed-channels.ts";
import type { Grants } from "../sessions/grant.ts";
import type { GatewayMetrics } from "../metrics/metrics.ts";
import type { NodeHoldings } from "../sessions/node-holdings.ts";
import type { Presence } from "../sessions/presence.ts";
import type { RelayClient } from "../relay/relay-client.ts";
import type { ResumeTokens } from "../sessions/resume-token.ts";
import type { Sessions } from "../sessions/sessions.ts";

/** The parts of the node that connections and their requests use. */
export interface GatewayContext {
  readonly node: string;
  readonly verify: Verifier;
  readonly currentRules: CurrentRules;
  readonly broker: ChannelBroker;
  readonly relay: RelayClient;
  readonly channels: FollowedChannels;
  readonly sessions: Sessions;
  readonly sessionStore: SessionStore;
  readonly queues: QueueStore;
  /** Of items that may wait. */
  readonly quotas: { readonly tenant: WaitingQuota; readonly source: WaitingQuota };
  readonly holdings: NodeHoldings;
  readonly presence: Presence;
  readonly fleet: FleetMember;
  readonly resumeTokens: ResumeTokens;
  readonly grants: Grants;
  /** Limit of one connection. */
  readonly messagesPerSecond: number;
  /** Contains exceptions that concern one peer, or one tick of a timer. */
  readonly errors: ContainedErrors;
  readonly metrics: GatewayMetrics;
  readonly logger: Logger;
}
