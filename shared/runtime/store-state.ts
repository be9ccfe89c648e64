/**
 * How far a store can be used. `away`: it answers nothing. `deaf`: it answers commands, but messages may be lost. `refusing`:
 * reads and messages work, writes do not.
 */
export type StoreState = "ok" | "away" | "deaf" | "refusing";

/** Combines the states of several parts of a store. */
export function worstState(states: Iterable<StoreState>): StoreState {
  const present = new Set(states);
  return (["deaf", "away", "refusing"] as const).find((state) => present.has(state)) ?? "ok";
}
