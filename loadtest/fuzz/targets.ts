/** The targets. The seed, the name of a target and a number determine an input. */
import { costlyRelayAnswer, costlyServiceAnswer, relayAnswer, serviceAnswer } from "./answers.ts";
import type { ArenaName } from "./arena.ts";
import { Dice } from "./dice.ts";
import { costlyDocument, documentConversation } from "./documents.ts";
import type { Input } from "./input.ts";
import type { Part } from "./parts.ts";
import { costlyPrivateRequest, privateConversation } from "./private-door.ts";
import {
  adminConversation,
  costlyAdminRequest,
  costlyPolling,
  costlyPublicRequest,
  pollingConversation,
  publicConversation,
} from "./public-door.ts";
import { costlyRelayLine, relayConversation } from "./relay-questions.ts";
import { costlyHook, hookConversation, openHook } from "./webhooks.ts";
import { costlyWebsocket, websocketConversation } from "./websockets.ts";

export interface Target {
  readonly name: string;
  readonly arena: ArenaName;
  readonly counts: "frames" | "requests";
  /** Inputs played at the same time. */
  readonly atOnce: number;
  readonly make: (dice: Dice) => Input;
  /** One message or request of the most expensive kinds. */
  readonly makeCostly: (dice: Dice) => Input;
  /** Share of a round's time. */
  readonly weight: number;
}

/** More websockets would only wait in the queue of the same event loop, and the honest client with them. */
const connections = 12;
/** Requests whose answers take CPU time. */
const costlyRequests = 24;
/** Requests of which some wait: for a refusal that is delayed on purpose, a hostile answer, or silence. */
const waitingRequests = 64;
/** Most of them are forged and answered half a second late: with 64 the process does nothing for most of its time. */
const forgedRequests = 256;

export const targets: readonly Target[] = [
  {
    name: "websocket",
    arena: "main",
    counts: "frames",
    atOnce: connections,
    make: websocketConversation,
    makeCostly: costlyWebsocket,
    weight: 3,
  },
  {
    name: "polling",
    arena: "main",
    counts: "requests",
    atOnce: waitingRequests,
    make: pollingConversation,
    makeCostly: costlyPolling,
    weight: 1,
  },
  {
    name: "public",
    arena: "main",
    counts: "requests",
    atOnce: waitingRequests,
    make: publicConversation,
    makeCostly: costlyPublicRequest,
    weight: 1,
  },
  {
    name: "webhooks",
    arena: "main",
    counts: "requests",
    atOnce: forgedRequests,
    make: hookConversation,
    makeCostly: costlyHook,
    weight: 1,
  },
  {
    name: "admin",
    arena: "main",
    counts: "requests",
    atOnce: waitingRequests,
    make: adminConversation,
    makeCostly: costlyAdminRequest,
    weight: 0.5,
  },
  {
    name: "private",
    arena: "main",
    counts: "requests",
    atOnce: waitingRequests,
    make: privateConversation,
    makeCostly: costlyPrivateRequest,
    weight: 1,
  },
  {
    name: "relay-questions",
    arena: "main",
    counts: "requests",
    atOnce: costlyRequests,
    make: relayConversation,
    makeCostly: costlyRelayLine,
    weight: 1,
  },
  {
    name: "documents",
    arena: "main",
    counts: "requests",
    atOnce: costlyRequests,
    make: documentConversation,
    makeCostly: costlyDocument,
    weight: 1,
  },
  {
    name: "service-answers",
    arena: "main",
    counts: "requests",
    atOnce: waitingRequests,
    make: serviceAnswer,
    makeCostly: costlyServiceAnswer,
    weight: 1,
  },
  {
    name: "relay-answers",
    arena: "relay",
    counts: "requests",
    atOnce: waitingRequests,
    make: relayAnswer,
    makeCostly: costlyRelayAnswer,
    weight: 1,
  },
];

export function inputOf(target: Target, seed: string, number: number): Input {
  return target.make(new Dice(`${seed}/${target.name}/${number}`));
}

export function costlyInputOf(target: Target, seed: string, number: number): Input {
  return target.makeCostly(new Dice(`${seed}/${target.name}/costly/${number}`));
}

/** Whether the sender of an input presented a token. Hostile services and private APIs count as authenticated. */
export function isAuthenticated(input: Input): boolean {
  if (input.kind !== "conversation") return true;
  if (input.opening === "session") return true;
  return input.steps.some((step) => {
    if ("request" in step) {
      const { target, headers, body = [] } = step.request;
      return target[0] === openHook || hasToken([...headers.flatMap(([, value]) => value), ...body]);
    }
    return "text" in step && hasToken(step.text);
  });
}

const tokens: ReadonlySet<string> = new Set(["token", "sameToken", "apiToken", "rulesToken", "relayToken", "resume"]);

function hasToken(parts: readonly Part[]): boolean {
  return parts.some((part) => typeof part === "object" && ("jwt" in part || ("live" in part && tokens.has(part.live))));
}
