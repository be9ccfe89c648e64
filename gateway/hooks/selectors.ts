/** Selectors of the rules: where in a webhook a value is. */
import { parsePointer, type PointerPath, valueAt } from "../../shared/json/json-pointer.ts";
import { scalarText } from "../../shared/queues/ordering-key.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import type { Envelope } from "./envelope.ts";

export type Selector =
  | { readonly from: "body"; readonly text: string; readonly path: PointerPath }
  | { readonly from: "header" | "query"; readonly text: string; readonly name: string }
  /** From 0, the first segment after the source. */
  | { readonly from: "path"; readonly text: string; readonly index: number };

/** The body, or a part of it. Undefined: neither JSON nor a form. */
export type SelectedBody = { json: Uint8Array } | { form: URLSearchParams } | undefined;

/** @param text a valid one: checked with the rules. */
export function parseSelector(text: string): Selector {
  const colon = text.indexOf(":");
  const rest = text.slice(colon + 1);
  switch (text.slice(0, colon)) {
    case "body":
      return { from: "body", text, path: rest.startsWith("/") ? parsePointer(rest) : [rest] };
    case "path":
      return { from: "path", text, index: Number(rest) - 1 };
    case "header":
      return { from: "header", text, name: rest.toLowerCase() };
    default:
      return { from: "query", text, name: rest };
  }
}

/**
 * @param purpose what the error names, e.g. `key`
 * @throws TidegateError `invalid_request` where the selector finds no string, number or boolean, or an empty one
 */
export function select(selector: Selector, purpose: string, envelope: Envelope, body: SelectedBody): string {
  const found = find(selector, envelope, body);
  if (found === undefined || found === "") {
    throw new TidegateError("invalid_request", `${purpose}: ${selector.text} finds nothing`);
  }
  return found;
}

function find(selector: Selector, envelope: Envelope, body: SelectedBody): string | undefined {
  switch (selector.from) {
    case "header": {
      const value = envelope.headers[selector.name];
      return typeof value === "string" ? value : undefined;
    }
    case "query":
      return envelope.query.get(selector.name) ?? undefined;
    case "path":
      return envelope.segments[selector.index];
    case "body": {
      if (body && "form" in body) return fieldOf(body.form, selector);
      const value = body && valueAt(body.json, selector.path);
      return value && scalarText(value);
    }
  }
}

/** @throws TidegateError `invalid_request` for bytes that are not UTF-8: the parser replaces them, so that different values become equal */
function fieldOf(form: URLSearchParams, { path, text }: Selector & { from: "body" }): string | undefined {
  const [name = ""] = path;
  const value = path.length === 1 ? form.get(name) : null;
  if (value?.includes("\ufffd")) throw new TidegateError("invalid_request", `${text}: is not UTF-8`);
  return value ?? undefined;
}
