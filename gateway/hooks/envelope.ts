/** What selectors read of a webhook, besides its body. */
import type { IncomingHttpHeaders, IncomingMessage } from "node:http";
import { assertDecodable } from "../../shared/http/query.ts";
import { targetOf } from "./target.ts";

export interface Envelope {
  readonly headers: IncomingHttpHeaders;
  /** After the source, decoded. */
  readonly segments: readonly string[];
  readonly query: URLSearchParams;
}

/** @throws TidegateError `invalid_request` for a target that is badly encoded */
export function envelopeOf({ headers, url }: Pick<IncomingMessage, "headers" | "url">): Envelope {
  const target = targetOf({ url });
  if (target.includes("%")) assertDecodable(target);
  const at = target.indexOf("?");
  // Read at need: most sources select in headers and bodies.
  return {
    headers,
    get segments() {
      const path = at === -1 ? target : target.slice(0, at);
      return path.split("/").slice(3).map(decodeURIComponent);
    },
    get query() {
      return new URLSearchParams(at === -1 ? "" : target.slice(at + 1));
    },
  };
}
