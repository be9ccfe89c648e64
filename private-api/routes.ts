/** Every call of the private API, in the order of its OpenAPI document. */
import type { FastifyInstance } from "fastify";
import type { PrivateApiContext } from "./node/context.ts";
import { addChannelHistory } from "./routes/channel-history.ts";
import { addChannelPresence } from "./routes/channel-presence.ts";
import { addListChanges } from "./routes/list-changes.ts";
import { addDrainNode } from "./routes/drain-node.ts";
import { addGetRollouts } from "./routes/get-rollouts.ts";
import { addGetRules } from "./routes/get-rules.ts";
import { addListChannels } from "./routes/list-channels.ts";
import { addListNodes } from "./routes/list-nodes.ts";
import { addListBridges } from "./routes/list-bridges.ts";
import { addListSqlSources } from "./routes/list-sql-sources.ts";
import { addListUsers } from "./routes/list-users.ts";
import { addNodeSessions } from "./routes/node-sessions.ts";
import { addListServices } from "./routes/list-services.ts";
import { addListCells } from "./routes/list-cells.ts";
import { addLoad } from "./routes/load.ts";
import { addMoveSlots } from "./routes/move-slots.ts";
import { addPinTenant } from "./routes/pin-tenant.ts";
import { addPublish } from "./routes/publish.ts";
import { addPublishBatch } from "./routes/publish-batch.ts";
import { addPutRollouts } from "./routes/put-rollouts.ts";
import { addPutRules } from "./routes/put-rules.ts";
import { addUndrainNode } from "./routes/undrain-node.ts";
import { addUserDisconnect } from "./routes/user-disconnect.ts";
import { addUserRefresh } from "./routes/user-refresh.ts";
import { addUserSend } from "./routes/user-send.ts";
import { addUserSessions } from "./routes/user-sessions.ts";
import { addUserSubscribe } from "./routes/user-subscribe.ts";
import { addUserUnsubscribe } from "./routes/user-unsubscribe.ts";
import { addDeleteDeadLetter } from "./routes/delete-dead-letter.ts";
import { addGetQueues } from "./routes/get-queues.ts";
import { addListDeadLetters } from "./routes/list-dead-letters.ts";
import { addReleaseQueue } from "./routes/release-queue.ts";
import { addRetryDeadLetter } from "./routes/retry-dead-letter.ts";
import { addRetryDeadLetters } from "./routes/retry-dead-letters.ts";
import { addCreateEndpoint } from "./routes/create-endpoint.ts";
import { addListEndpoints } from "./routes/list-endpoints.ts";
import { addGetEndpoint } from "./routes/get-endpoint.ts";
import { addPatchEndpoint } from "./routes/patch-endpoint.ts";
import { addDeleteEndpoint } from "./routes/delete-endpoint.ts";
import { addPauseEndpoint } from "./routes/pause-endpoint.ts";
import { addResumeEndpoint } from "./routes/resume-endpoint.ts";
import { addTestEndpoint } from "./routes/test-endpoint.ts";
import { addRotateEndpoint } from "./routes/rotate-endpoint.ts";
import { addEndpointAttempts } from "./routes/endpoint-attempts.ts";
import { addSeekEndpoint } from "./routes/seek-endpoint.ts";
import { addGoLiveEndpoint } from "./routes/go-live-endpoint.ts";
import { addShadowEndpoint } from "./routes/shadow-endpoint.ts";
import { addEndpointLedger } from "./routes/endpoint-ledger.ts";

const calls = [
  addPublish,
  addPublishBatch,
  addUserSend,
  addUserRefresh,
  addUserDisconnect,
  addUserSubscribe,
  addUserUnsubscribe,
  addUserSessions,
  addListUsers,
  addListChannels,
  addChannelHistory,
  addChannelPresence,
  addListChanges,
  addGetRules,
  addPutRules,
  addLoad,
  addListNodes,
  addNodeSessions,
  addListServices,
  addDrainNode,
  addUndrainNode,
  addGetRollouts,
  addPutRollouts,
  addListSqlSources,
  addListBridges,
  addGetQueues,
  addReleaseQueue,
  addListDeadLetters,
  addRetryDeadLetter,
  addRetryDeadLetters,
  addDeleteDeadLetter,
  addListCells,
  addMoveSlots,
  addPinTenant,
  addCreateEndpoint,
  addListEndpoints,
  addGetEndpoint,
  addPatchEndpoint,
  addDeleteEndpoint,
  addPauseEndpoint,
  addResumeEndpoint,
  addTestEndpoint,
  addRotateEndpoint,
  addEndpointAttempts,
  addSeekEndpoint,
  addGoLiveEndpoint,
  addShadowEndpoint,
  addEndpointLedger,
];

export function addRoutes(app: FastifyInstance, context: PrivateApiContext): void {
  for (const add of calls) add(app, context);
}
