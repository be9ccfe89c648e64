/** Finds the route of an event: the exact one, else the one with the longest prefix. Pure. */
import type { RouteRule } from "./document.ts";

export class RouteTable {
  readonly #exact: ReadonlyMap<string, RouteRule>;
  /** Longest prefix first. */
  readonly #prefixes: readonly { prefix: string; route: RouteRule }[];

  constructor(routes: readonly RouteRule[]) {
    this.#exact = new Map(routes.filter((route) => !route.event.endsWith("*")).map((route) => [route.event, route]));
    this.#prefixes = routes
      .filter((route) => route.event.endsWith("*"))
      .map((route) => ({ prefix: route.event.slice(0, -1), route }))
      .sort((a, b) => b.prefix.length - a.prefix.length);
  }

  find(event: string): RouteRule | undefined {
    return this.#exact.get(event) ?? this.#prefixes.find(({ prefix }) => event.startsWith(prefix))?.route;
  }
}
