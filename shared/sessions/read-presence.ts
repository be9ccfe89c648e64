import { TidegateError } from "../runtime/errors.ts";
import { namespaceOf } from "../protocol/grammar.ts";
import { maxListedSessions } from "../protocol/limits.ts";
import type { PresenceAck } from "../protocol/wire.ts";
import type { Rules } from "../rules/rules.ts";
import type { SessionStore } from "./contract.ts";

/** Reads the presence of a channel, for clients and services. @throws TidegateError where its namespace has presence off. */
export async function readPresence(store: SessionStore, channel: string, rules: Rules): Promise<PresenceAck> {
  if (!rules.namespace(channel).presence) {
    const namespace = namespaceOf(channel);
    throw new TidegateError("invalid_request", `presence is off: set namespaces.${namespace}.presence in the rules`);
  }
  return store.presence(channel, maxListedSessions);
}
