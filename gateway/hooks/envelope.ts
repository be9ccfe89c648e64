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
  return new TargetEnvelope(headers, target);
}

/** Reads path and query at need: most sources select in headers and bodies. */
class TargetEnvelope implements Envelope {
  readonly headers: IncomingHttpHeaders;
  readonly #target: string;

  constructor(headers: IncomingHttpHeaders, target: string) {
    this.headers = headers;
    this.#target = target;
  }

  get segments(): readonly string[] {
    const [path = ""] = this.#target.split("?", 1);
    return path.split("/").slice(3).map(decodeURIComponent);
  }

  get query(): URLSearchParams {
    const at = this.#target.indexOf("?");
    return new URLSearchParams(at === -1 ? "" : this.#target.slice(at + 1));
  }
}
