/** Headers of a request to a service: CloudEvents 1.0, binary mode of the HTTP binding. */
import { hash, randomUUID } from "node:crypto";
import type { IdentityKey } from "../protocol/identity-key.ts";

/** `ce-source` of events from clients. */
export const socketSource = "/tidegate/socket";

/** `ce-source` of webhooks. @param source its name in the rules */
export function hookSource(source: string): string {
  return `/tidegate/hooks/${source}`;
}

export interface EventContext {
  /** Without a dot: the signature uses dots as separators. */
  id: string;
  type: string;
  source: string;
  time: Date;
  /** The user. */
  subject: string;
  sessionId: string;
  tenant?: string | undefined;
}

export function eventHeaders(context: EventContext): Record<string, string> {
  return {
    "ce-specversion": "1.0",
    "ce-id": context.id,
    "ce-type": encodeHeader(context.type),
    "ce-source": context.source,
    "ce-time": context.time.toISOString(),
    "ce-subject": encodeHeader(context.subject),
    "ce-session": context.sessionId,
    ...(context.tenant !== undefined && { "ce-tenant": encodeHeader(context.tenant) }),
  };
}

/** Random; or derived from user and client id, so that a service recognises a repeat. */
export function eventId(user: IdentityKey, clientId?: string): string {
  return clientId === undefined ? randomUUID() : derivedId([user, clientId]);
}

/** Derived from the source and the id that it gave: unlike the ids of any client. Random without one. */
export function hookEventId(source: string, givenId?: string): string {
  return givenId === undefined ? randomUUID() : derivedId(["hook", source, givenId]);
}

function derivedId(parts: readonly string[]): string {
  return hash("sha256", JSON.stringify(parts), "base64url");
}

/** Percent-encodes characters that headers cannot carry (HTTP binding, section 3.1.3.2). */
export function encodeHeader(value: string): string {
  return value.replaceAll(/[^\x21\x23\x24\x26-\x7e]+/g, (part) => encodeURIComponent(part.toWellFormed()));
}
