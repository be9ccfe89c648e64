/** Syntax of channels, events and users on the wire. Import-free. */

/** `namespace:rest`, e.g. `board:42`. */
export const channelPattern = /^[a-z0-9_-]{1,32}:[A-Za-z0-9_.:@/-]{1,200}$/;
/** An application event, e.g. `card.moved`. */
export const eventPattern = /^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$/;
/** Prefix of the gateway's events; application events must not use it. */
export const reservedEventPrefix = "sync:";
/** Names reserved by Socket.IO: emitting one closes the transport. */
export const socketIoReservedEvents: readonly string[] = [
  "connect",
  "connect_error",
  "disconnect",
  "disconnecting",
  "newListener",
  "removeListener",
];

/** Well-formed Unicode. UTF-8 cannot encode an unpaired surrogate: different texts would become equal. For schemas. */
export const wellFormedPattern = /^\P{Cs}*$/u;

export function isChannel(text: string): boolean {
  return channelPattern.test(text);
}

export function isApplicationEvent(text: string): boolean {
  return eventPattern.test(text) && !text.startsWith(reservedEventPrefix) && !socketIoReservedEvents.includes(text);
}

/** Whether a channel can have that name, or begin with the prefix before a final `*`. */
export function canMatchChannel(pattern: string): boolean {
  if (!pattern.endsWith("*")) return isChannel(pattern);
  return /^([a-z0-9_-]{0,32}|[a-z0-9_-]{1,32}:[A-Za-z0-9_.:@/-]{0,200})$/.test(pattern.slice(0, -1));
}

/** @param channel a valid one ({@link isChannel}). @returns the part before the first colon. */
export function namespaceOf(channel: string): string {
  return channel.slice(0, channel.indexOf(":"));
}

/** `pattern` is an exact name, or a prefix and a final `*`. */
export function matchesPattern(pattern: string, name: string): boolean {
  return pattern.endsWith("*") ? name.startsWith(pattern.slice(0, -1)) : pattern === name;
}
