import type { JsonText } from "../../shared/json/json-text.ts";

/** An event of a client, as the engine hands it on. */
export interface ClientEvent {
  name: string;
  /** JSON text as the client wrote it, not parsed; arguments over the decoder's bound are left out. */
  args: readonly JsonText[];
  /** Why the event is refused, whatever its arguments are. */
  flaw?: EventFlaw;
  /** Undefined where the client wants no ack. */
  ackId: number | undefined;
}

/** `binary`: it announced attachments, which are dropped. */
export type EventFlaw = "binary" | "too_deep";
