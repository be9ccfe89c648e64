/** What a provider's way to sign webhooks is made of. One file for each, beside this one. */
import type { KeyObject } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";

/** A webhook before anything of its body is read. */
export interface SignedRequest {
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  /** The addresses that the provider may have called, as seen from outside, with path and query as they were sent. */
  urls(): readonly string[];
  /** Unix seconds. */
  readonly nowSeconds: number;
}

export interface Scheme {
  /** @param secret text of the environment variable. @returns undefined where it is no secret of this provider. */
  keyOf(secret: string): KeyObject | undefined;
  /**
   * Checks in constant time with respect to the signatures. Reads no more of the body than its bytes.
   * @param keys any of them may have signed
   * @returns why the webhook is refused; undefined: it is genuine
   */
  refusal(request: SignedRequest, keys: readonly KeyObject[]): string | undefined;
}
