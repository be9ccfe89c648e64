/** Finds the route of an event: the exact one, else the one with the longest prefix. Pure. */
import { PatternMap } from "../runtime/pattern-map.ts";
import type { RouteRule } from "./schema.ts";

export class RouteTable {
  readonly #routes = new PatternMap<RouteRule>();

  /** @param routes each of another event. */
  constructor(routes: readonly RouteRule[]) {
    for (const route of routes) this.#routes.getOrAdd(route.event, () => route);
  }

  find(event: string): RouteRule | undefined {
    let longest: RouteRule | undefined;
    for (const route of this.#routes.matching(event)) {
      if (route.event === event) return route;
      if (!longest || route.event.length > longest.event.length) longest = route;
    }
    return longest;
  }
}
