import type { JsonText } from "../../shared/json/json-text.ts";

/** An event from a client, as the engine decodes it. */
export interface ClientEvent {
  name: string;
  /** JSON text as the client wrote it. Arguments beyond the decoder's bound are dropped. */
  args: readonly JsonText[];
  /** The event is refused for this, whatever its arguments are. */
  flaw?: EventFlaw;
  /** Undefined where the client did not ask for an ack. */
  ackId: number | undefined;
}

/** `binary`: it has attachments, which are dropped. */
export type EventFlaw = "binary" | "too_deep";
