/** Session events: they notify a service when a session begins and ends. Pure. */

export const sessionEventKinds = ["connected", "disconnected"] as const;
export type SessionEventKind = (typeof sessionEventKinds)[number];

/** `ce-source` of session events. No client's event has it. */
export const sessionSource = "/tidegate/sessions";

/** `ce-type` */
export function sessionEventType(kind: SessionEventKind): string {
  return `tidegate.${kind}`;
}
