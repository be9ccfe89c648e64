/**
 * The contract between the private API and the gateways for lists of what is there now: channels with followers, sessions,
 * connected users. No store keeps them: each gateway answers for itself, from memory. Both implementations, memory.ts and redis.ts,
 * pass the same suite (test/contract/inventory.test.ts).
 *
 * Every implementation MUST
 * - return within {@link answerWithinMs}, with the answers that arrived by then;
 * - fail with `broker_unavailable` when gateways cannot be asked.
 */
import { type Static, Type } from "typebox";
import type { Service } from "../runtime/lifecycle.ts";

export const inventoryKinds = ["channels", "sessions", "users"] as const;

/** Asks each node for its first items after an id. */
export const InventoryQuestion = Type.Object({
  kind: Type.Enum(inventoryKinds),
  /** Exclusive. Absent: from the beginning. */
  after: Type.Optional(Type.String()),
  limit: Type.Integer({ minimum: 1, maximum: 1_000 }),
});
export type InventoryQuestion = Static<typeof InventoryQuestion>;

/** A channel, a session or a user on one node. Items are in the order of their ids, by UTF-16 code units. */
export const InventoryItem = Type.Object({
  /** Name of the channel, id of the session, key of the user. */
  id: Type.String(),
  /** Sessions that follow the channel, channels that the session follows, sessions of the user. */
  count: Type.Integer({ minimum: 0 }),
  /** Of sessions and users. */
  user: Type.Optional(Type.String()),
  tenant: Type.Optional(Type.String()),
  /** Of sessions: when this connection began, Unix ms. */
  connectedAt: Type.Optional(Type.Integer()),
});
export type InventoryItem = Static<typeof InventoryItem>;

/** By instance of the node. */
export type InventoryAnswers = ReadonlyMap<string, readonly InventoryItem[]>;

export interface Inventory extends Service {
  /** Answers for a node from now on. @returns ends that. */
  serve(instance: string, answer: (question: InventoryQuestion) => Promise<InventoryItem[]>): Promise<() => void>;
  /** @param instances that are asked; resolves once all of them have answered. */
  ask(question: InventoryQuestion, instances: ReadonlySet<string>): Promise<InventoryAnswers>;
}

/** A node that is up answers in milliseconds; a node of an earlier version never answers. */
export const answerWithinMs = 2_000;
