/** Finds the endpoints that want a change, without a look at those that do not. Pure. */
import type { StoredEndpoint } from "../../shared/endpoints/contract.ts";
import { PatternMap } from "../../shared/runtime/pattern-map.ts";

type ByEvent = PatternMap<Map<string, StoredEndpoint>>;

export class EndpointIndex {
  readonly #byId = new Map<string, StoredEndpoint>();
  readonly #byChannel = new PatternMap<ByEvent>();

  get all(): Iterable<StoredEndpoint> {
    return this.#byId.values();
  }

  get size(): number {
    return this.#byId.size;
  }

  get(id: string): StoredEndpoint | undefined {
    return this.#byId.get(id);
  }

  set(stored: StoredEndpoint): void {
    const { id, channels, events } = stored.endpoint;
    this.delete(id);
    this.#byId.set(id, stored);
    for (const channel of channels) {
      const byEvent = this.#byChannel.getOrAdd(channel, () => new PatternMap());
      for (const event of events) byEvent.getOrAdd(event, () => new Map()).set(id, stored);
    }
  }

  delete(id: string): void {
    const known = this.#byId.get(id);
    if (!known) return;
    this.#byId.delete(id);
    for (const channel of known.endpoint.channels) {
      const byEvent = this.#byChannel.get(channel);
      for (const event of known.endpoint.events) {
        const endpoints = byEvent?.get(event);
        endpoints?.delete(id);
        if (endpoints?.size === 0) byEvent?.delete(event);
      }
      if (byEvent?.isEmpty) this.#byChannel.delete(channel);
    }
  }

  /** Each endpoint once. */
  match(channel: string, event: string): Iterable<StoredEndpoint> {
    const found = new Map<string, StoredEndpoint>();
    for (const byEvent of this.#byChannel.matching(channel)) {
      for (const endpoints of byEvent.matching(event)) {
        for (const [id, stored] of endpoints) found.set(id, stored);
      }
    }
    return found.values();
  }
}
