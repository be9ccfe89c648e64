/** Names on the wire: what a channel, an event and a user may look like. Import-free. */

/** `namespace:rest`, e.g. `board:42`. */
export const channelPattern = /^[a-z0-9_-]{1,32}:[A-Za-z0-9_.:@/-]{1,200}$/;
/** An application event, e.g. `card.moved`. */
export const eventPattern = /^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$/;
/** Prefix of the gateway's own events, never of the application's. */
export const reservedEventPrefix = "sync:";
/** Names that Socket.IO keeps for itself: emitting one closes the transport. */
export const socketIoReservedEvents: readonly string[] = [
  "connect",
  "connect_error",
  "disconnect",
  "disconnecting",
  "newListener",
  "removeListener",
];

/** Well-formed Unicode: UTF-8 has no bytes for half a surrogate pair, and two texts would become one. For schemas. */
export const wellFormedPattern = /^\P{Cs}*$/u;

export function isChannel(text: string): boolean {
  return channelPattern.test(text);
}

export function isApplicationEvent(text: string): boolean {
  return eventPattern.test(text) && !text.startsWith(reservedEventPrefix) && !socketIoReservedEvents.includes(text);
}

/** The part before the first colon. The caller has checked {@link isChannel}. */
export function namespaceOf(channel: string): string {
  return channel.slice(0, channel.indexOf(":"));
}

/** `pattern` is an exact name, or a prefix and a final `*`. */
export function matchesPattern(pattern: string, name: string): boolean {
  return pattern.endsWith("*") ? name.startsWith(pattern.slice(0, -1)) : pattern === name;
}
