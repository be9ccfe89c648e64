/** Endpoints as their store keeps them. */
import type { StoredEndpoint } from "../../shared/endpoints/contract.ts";
import type { Endpoint } from "../../shared/endpoints/endpoint.ts";

export function plainEndpoint(more: Partial<Endpoint> = {}): Endpoint {
  return {
    ...{ id: "ep_1", url: "http://127.0.0.1:1/", channels: ["board:*"], events: ["*"], mode: "live", key: "channel" },
    ...{ secrets: [], headers: {}, timeoutMs: 1, maxInFlight: 1 },
    ...more,
  };
}

export function storedEndpoint(more: Partial<StoredEndpoint> = {}): StoredEndpoint {
  return {
    ...{ endpoint: plainEndpoint(), version: 1, startsAt: 0, createdAt: 0, generation: 0, validFrom: 0 },
    ...more,
  };
}
