/** Finds the route of an event: the exact one, else the one with the longest prefix. Pure. */
import type { RouteRule } from "./schema.ts";

export class RouteTable {
  readonly #exact = new Map<string, RouteRule>();
  readonly #prefixes = new Map<string, RouteRule>();
  /** Of the prefixes, longest first: few, however many prefixes there are. */
  readonly #lengths: readonly number[];

  /** @param routes each of another event. */
  constructor(routes: readonly RouteRule[]) {
    for (const route of routes) {
      if (route.event.endsWith("*")) this.#prefixes.set(route.event.slice(0, -1), route);
      else this.#exact.set(route.event, route);
    }
    this.#lengths = [...new Set([...this.#prefixes.keys()].map(({ length }) => length))].sort((a, b) => b - a);
  }

  find(event: string): RouteRule | undefined {
    const exact = this.#exact.get(event);
    if (exact) return exact;
    for (const length of this.#lengths) {
      const route = length <= event.length ? this.#prefixes.get(event.slice(0, length)) : undefined;
      if (route) return route;
    }
    return undefined;
  }
}
