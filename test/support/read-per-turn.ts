/** Counts the bytes that are read within one turn of the event loop. */
export interface ReadPerTurn {
  add(bytes: number): void;
  /** In one turn. */
  readonly most: number;
  end(): { total: number };
}

export function readPerTurn(): ReadPerTurn {
  let [total, most, within] = [0, 0, 0];
  let ended = false;
  const turn = (): void => {
    within = 0;
    if (!ended) setImmediate(turn);
  };
  turn();
  return {
    add: (bytes) => {
      total += bytes;
      within += bytes;
      most = Math.max(most, within);
    },
    get most() {
      return most;
    },
    end: () => {
      ended = true;
      return { total };
    },
  };
}
