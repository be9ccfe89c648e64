import { maxJsonDepth } from "../../shared/json/json-scan.ts";
import type { JsonText } from "../../shared/json/json-text.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";

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

/** @throws TidegateError `invalid_request` where the decoder found a flaw. */
export function assertSound({ flaw }: ClientEvent): void {
  switch (flaw) {
    case undefined:
      return;
    case "binary":
      throw new TidegateError("invalid_request", "binary data is not supported: send text or JSON");
    case "too_deep":
      throw new TidegateError("invalid_request", `the data is nested deeper than ${maxJsonDepth} levels`);
  }
}
