import type { ChannelBroker } from "../../shared/channels/contract.ts";
import type { ChangeBudget } from "../../shared/changes/budget.ts";
import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import type { DocumentStore } from "../../shared/documents/contract.ts";
import type { Logger } from "../../shared/runtime/logging.ts";
import type { CellMaps } from "../../shared/cells/contract.ts";
import type { CurrentRollouts } from "../../shared/rollouts/current-rollouts.ts";
import type { CurrentRules } from "../../shared/rules/current-rules.ts";
import type { DispatcherRegistry } from "../../shared/dispatchers/contract.ts";
import type { NodeRegistry } from "../../shared/nodes/contract.ts";
import type { QueueOperations } from "../../shared/queues/contract.ts";
import type { SessionStore } from "../../shared/sessions/contract.ts";
import type { SqlShardStore } from "../../shared/sql-sources/contract.ts";
import type { Environment } from "../../shared/runtime/settings.ts";
import type { PrivateApiMetrics } from "../metrics/metrics.ts";
import type { FleetLists } from "../fleet/fleet-lists.ts";
import type { Endpoints } from "../endpoints/endpoints.ts";
import type { ChangePulls } from "../changes/change-pulls.ts";
import type { Upstream } from "../upstream/upstream.ts";

/** The parts of the process that routes and relay streams use. */
export interface PrivateApiContext {
  readonly broker: ChannelBroker;
  readonly rulesStore: DocumentStore;
  readonly rolloutsStore: DocumentStore;
  readonly sessionStore: SessionStore;
  readonly queues: QueueOperations;
  readonly nodeRegistry: NodeRegistry;
  readonly fleetLists: FleetLists;
  readonly dispatcherRegistry: DispatcherRegistry;
  readonly cellMaps: CellMaps;
  readonly currentRules: CurrentRules;
  readonly currentRollouts: CurrentRollouts;
  /** The rules come from RULES_FILE: the API refuses to put them. */
  readonly rulesFromFile: boolean;
  /** Holds the secrets that rules refer to as `env:NAME`. */
  readonly environment: Environment;
  readonly upstream: Upstream;
  readonly endpoints: Endpoints;
  readonly changeBudget: ChangeBudget;
  readonly pulls: ChangePulls;
  readonly sqlShards: SqlShardStore;
  /** Contains exceptions that concern one peer, or one tick of a timer. */
  readonly errors: ContainedErrors;
  readonly metrics: PrivateApiMetrics;
  readonly logger: Logger;
}
