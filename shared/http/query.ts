import { TidegateError } from "../runtime/errors.ts";

/** @throws TidegateError where path or query are badly encoded: the parser would take such text literally. */
export function assertDecodable(url: string): void {
  try {
    decodeURIComponent(url);
  } catch (error) {
    throw new TidegateError("invalid_request", "the URL is not percent-encoded UTF-8", { cause: error });
  }
}
