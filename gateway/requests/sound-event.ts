import { TidegateError } from "../../shared/runtime/errors.ts";
import { maxJsonDepth } from "../../shared/json/json-scan.ts";
import type { ClientEvent } from "./client-event.ts";

/** @throws TidegateError `invalid_request` where the event was refused before its arguments were read. */
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
