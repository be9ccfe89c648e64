/**
 * How a store of ours can be used. `away`: nothing is answered. `deaf`: commands are, but messages may be missed. `refusing`: reads and
 * messages work, writes do not.
 */
export type StoreState = "ok" | "away" | "deaf" | "refusing";

/** Of several parts of a store. */
export function worstState(states: Iterable<StoreState>): StoreState {
  const present = new Set(states);
  return (["deaf", "away", "refusing"] as const).find((state) => present.has(state)) ?? "ok";
}
