/** Distributes schedules over arenas, each of which is started once and runs many. */

export interface Lane<Kind> {
  readonly kind: Kind;
  /** Schedules that run at the same time on the arena. */
  readonly width: number;
}

export interface LaneOptions<Kind extends string, Arena extends { stop(): Promise<void> }> {
  readonly count: number;
  /** Of these schedules only. */
  readonly only?: readonly number[] | undefined;
  /** Arenas that run at the same time. */
  readonly lanes: readonly Lane<Kind>[];
  readonly kindOf: (index: number) => Kind;
  /** Faults of the arena's list that each schedule must run. */
  readonly turnsPerSchedule: Readonly<Record<Kind, number>>;
  readonly startArena: (kind: Kind) => Promise<Arena>;
  /**
   * @param turn number of the schedule's first fault in the endless list of the kind's faults
   * @returns false where the arena may be broken: the next schedule gets another one
   */
  readonly run: (arena: Arena, schedule: { index: number; turn: number }) => Promise<boolean>;
  /** Starts no more schedules. */
  readonly signal?: AbortSignal | undefined;
}

export async function runLanes<Kind extends string, Arena extends { stop(): Promise<void> }>(
  options: LaneOptions<Kind, Arena>,
): Promise<void> {
  const { count, only, lanes, kindOf, turnsPerSchedule, startArena, run } = options;
  const failing = new AbortController();
  const signal = AbortSignal.any([failing.signal, ...(options.signal ? [options.signal] : [])]);
  const waiting = new Map<Kind, { index: number; turn: number }[]>();
  const turns = new Map<Kind, number>();
  for (let index = 0; index < count; index++) {
    const kind = kindOf(index);
    const turn = turns.get(kind) ?? 0;
    turns.set(kind, turn + turnsPerSchedule[kind]);
    if (only && !only.includes(index)) continue;
    const queue = waiting.get(kind);
    if (queue) queue.push({ index, turn });
    else waiting.set(kind, [{ index, turn }]);
  }
  const ended = await Promise.allSettled(
    lanes.map(async ({ kind, width }) => {
      const queue = waiting.get(kind) ?? [];
      while (queue.length > 0 && !signal.aborted) {
        const arena = await startArena(kind).catch((error: unknown) => {
          failing.abort();
          throw error;
        });
        let isWhole = true;
        const workOff = async (): Promise<void> => {
          while (isWhole && !signal.aborted) {
            const next = queue.shift();
            if (!next) return;
            if (!(await run(arena, next))) isWhole = false;
          }
        };
        try {
          await Promise.all(Array.from({ length: width }, workOff));
        } finally {
          await arena.stop();
        }
      }
    }),
  );
  // Only now: each lane has stopped the processes of its arena.
  for (const lane of ended) if (lane.status === "rejected") throw lane.reason;
}
