/** How a store of ours can be used. `away`: nothing is answered. `deaf`: commands are, but messages may be missed. */
export type StoreState = "ok" | "away" | "deaf";
