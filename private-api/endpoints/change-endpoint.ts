/** Changes of stored endpoints. */
import type { EndpointStore, StoredEndpoint } from "../../shared/endpoints/contract.ts";
import type { Endpoint } from "../../shared/endpoints/endpoint.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";

/** Tries before `conflict`, while other callers keep changing the same endpoint. */
const maxTries = 10;

/**
 * @param edit gets the stored endpoint, and may be called again with a newer one. It returns undefined to change nothing
 * @returns the endpoint after the change
 * @throws TidegateError `not_found`, or `conflict` after {@link maxTries}
 */
export async function changeEndpoint(
  store: EndpointStore,
  id: string,
  edit: (stored: StoredEndpoint) => Endpoint | undefined,
): Promise<StoredEndpoint> {
  for (let tries = 0; tries < maxTries; tries++) {
    const stored = await readEndpoint(store, id);
    const endpoint = edit(stored);
    if (!endpoint) return stored;
    const outcome = await store.change(endpoint, stored.version);
    if (outcome === "stored") return readEndpoint(store, id);
  }
  throw new TidegateError("conflict", "other callers keep changing the endpoint: try again");
}

/** @throws TidegateError `not_found` */
export async function readEndpoint(store: EndpointStore, id: string): Promise<StoredEndpoint> {
  const stored = await store.read(id);
  if (!stored) throw new TidegateError("not_found", "no such endpoint");
  return stored;
}
