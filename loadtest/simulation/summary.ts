/** Summarises a run in a few numbers. */
import type { Figures } from "./figures.ts";
import type { Recording, Second } from "./recorder.ts";
import type { Settings } from "./settings.ts";

export interface Summary {
  /** Clients that were without a session at the worst moment. */
  readonly mostAway: number;
  /** Seconds from the event until so many of them stayed back; undefined: not within the run. */
  readonly backSeconds: {
    readonly half: number | undefined;
    readonly most: number | undefined;
    readonly all: number | undefined;
  };
  readonly connectedAtEnd: number;
  readonly peakDialsPerSecond: number;
  readonly peakAdmittedPerSecond: number;
  readonly peakAuthCallsPerSecond: number;
  readonly peakRefusalsPerSecond: number;
  /** The longest delay of a message or handshake on any node. */
  readonly worstDelayMs: number;
  readonly authCalls: number;
  /** Admissions of clients without a resume token. */
  readonly coldAdmissions: number;
  readonly fallen: number;
  readonly totals: Recording["totals"];
  /** Redis' load for the admissions of the busiest second; calculated, not simulated. */
  readonly redisCoresAtPeak: number;
}

/** @param atSecond when the event happens */
export function summarise(recording: Recording, settings: Settings, atSecond: number, { redis }: Figures): Summary {
  const { seconds, totals, peakAdmittedPerSecond } = recording;
  const peak = (of: (second: Second) => number): number =>
    seconds.reduce((most, second) => Math.max(most, of(second)), 0);
  const mostAway =
    settings.clients - seconds.reduce((least, { connected }) => Math.min(least, connected), settings.clients);
  /** The end of the last second in which more than 1 - `share` of them was away. */
  const back = (share: number): number | undefined => {
    const allowed = (1 - share) * mostAway;
    const last = seconds.findLast(({ connected }) => settings.clients - connected > allowed);
    if (last === undefined) return 0;
    return last === seconds.at(-1) ? undefined : last.second + 1 - atSecond;
  };
  return {
    mostAway,
    backSeconds: { half: back(0.5), most: back(0.95), all: back(1) },
    connectedAtEnd: seconds.at(-1)?.connected ?? 0,
    peakDialsPerSecond: peak(({ dials }) => dials),
    peakAdmittedPerSecond,
    peakAuthCallsPerSecond: peak(({ authCalls }) => authCalls),
    peakRefusalsPerSecond: peak(({ refused, turnedAway }) => refused + turnedAway),
    worstDelayMs: peak(({ worstDelayMs }) => worstDelayMs),
    authCalls: totals.authCalls,
    coldAdmissions: totals.welcomed - totals.resumed,
    fallen: totals.fallen,
    totals,
    redisCoresAtPeak:
      peak(({ welcomed, resumed }) => (welcomed - resumed) * redis.coldMicros + resumed * redis.resumeMicros) /
      1_000_000,
  };
}
