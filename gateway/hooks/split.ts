/** Cuts a body into its parts, each as its sender wrote it. */
import { scanItems } from "../../shared/json/json-members.ts";
import { type PointerPath, valueAt } from "../../shared/json/json-pointer.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";

/** Meta sends up to a thousand changes at once. */
const maxParts = 1_000;

/**
 * @param json valid. @param paths each leads to an array within the items of the one before
 * @returns the items of the last arrays, in order; an item without the next array has none
 * @throws TidegateError `invalid_request` where a path leads to something else, `payload_too_large` for too many parts
 */
export function splitJson(json: Uint8Array, paths: readonly PointerPath[]): readonly Uint8Array[] {
  return paths.reduce<readonly Uint8Array[]>((values, path) => itemsIn(values, path), [json]);
}

function itemsIn(values: readonly Uint8Array[], path: PointerPath): Uint8Array[] {
  const parts: Uint8Array[] = [];
  for (const value of values) {
    const array = valueAt(value, path);
    if (array === undefined) continue;
    const scan = scanItems(array, maxParts + 1);
    if (scan.kind !== "items") throw new TidegateError("invalid_request", `split: /${path.join("/")} is no array`);
    parts.push(...scan.items);
    if (parts.length > maxParts) throw new TidegateError("payload_too_large", `has more than ${maxParts} parts`);
  }
  return parts;
}
