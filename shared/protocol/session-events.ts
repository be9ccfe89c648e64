/** Session events: what a service hears of a session's begin and end. Pure. */

export const sessionEventKinds = ["connected", "disconnected"] as const;
export type SessionEventKind = (typeof sessionEventKinds)[number];

/** `ce-source` of session events. No client's event has it. */
export const sessionSource = "/tidegate/sessions";

/** `ce-type` */
export function sessionEventType(kind: SessionEventKind): string {
  return `tidegate.${kind}`;
}
