/** Classifies the body of a webhook: JSON, a form, or text or bytes that are stored unchanged. */
import { isUtf8 } from "node:buffer";
import type { IncomingHttpHeaders } from "node:http";
import { notJson } from "../../shared/http/body.ts";
import { maxJsonMembers } from "../../shared/json/json.ts";
import { maxJsonDepth, scanJson } from "../../shared/json/json-scan.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";

export type Content =
  | { kind: "json"; json: Buffer }
  | { kind: "form"; form: URLSearchParams; contentType: string }
  /** Nothing in these can be selected. `bytes` are not UTF-8. */
  | { kind: "text" | "bytes"; contentType: string };

/** Parsing a form costs by its fields; providers send about fifty. */
const maxFields = 1_000;
const ampersand = 0x26;
const formType = "application/x-www-form-urlencoded";
/** What a header of the request to the service can carry. */
const plainType = /^[\x21-\x7e][\x20-\x7e]{0,255}$/;

export function isForm(headers: IncomingHttpHeaders): boolean {
  return mediaTypeOf(headers) === formType;
}

/** @throws TidegateError `payload_too_large` for too many fields */
export function parseForm(body: Buffer): URLSearchParams {
  let fields = 1;
  for (let at = body.indexOf(ampersand); at !== -1; at = body.indexOf(ampersand, at + 1)) {
    if (++fields > maxFields) throw new TidegateError("payload_too_large", `has more than ${maxFields} fields`);
  }
  return new URLSearchParams(body.toString("utf8"));
}

/**
 * @param options.readsBody the source selects values in the body, or splits it: then anything but a form has to be JSON
 * @param options.split of the source: where it has paths the body has to be JSON, a form is refused
 * @throws TidegateError `invalid_request` where the body is not what it has to be
 */
export function contentOf(
  headers: IncomingHttpHeaders,
  body: Buffer,
  { readsBody, split }: { readsBody: boolean; split: readonly unknown[] },
): Content {
  if (body.length === 0) throw new TidegateError("invalid_request", "the body is empty");
  const isText = isUtf8(body);
  const mediaType = mediaTypeOf(headers);
  const given = headers["content-type"] ?? "";
  const contentType = plainType.test(given) ? given : "text/plain";
  const isFormBody = mediaType === formType;
  const isJson = mediaType === "" || mediaType === "application/json" || mediaType.endsWith("+json");
  if (!isJson && !isFormBody && !readsBody) return { kind: isText ? "text" : "bytes", contentType };
  if (!isText) throw new TidegateError("invalid_request", "the body is not UTF-8");
  if (isFormBody && split.length === 0) return { kind: "form", form: parseForm(body), contentType };
  const { kind, widest, errorAt } = scanJson(body);
  if (kind === "too_deep") throw new TidegateError("invalid_request", `nested deeper than ${maxJsonDepth} levels`);
  if (kind === "malformed") throw notJson(body, errorAt);
  // Each selector looks at every member.
  if (widest > maxJsonMembers) {
    throw new TidegateError("payload_too_large", `an object has more than ${maxJsonMembers} members`);
  }
  return { kind: "json", json: body };
}

/** In lower case, without parameters; "" where there is none. */
function mediaTypeOf(headers: IncomingHttpHeaders): string {
  const [type = ""] = (headers["content-type"] ?? "").split(";", 1);
  return type.trim().toLowerCase();
}
