/** A run in a few numbers. */
import type { Figures } from "./figures.ts";
import type { Recording, Second } from "./recorder.ts";
import type { Settings } from "./settings.ts";

export interface Summary {
  /** Clients that were without a session at the worst moment. */
  readonly mostAway: number;
  /** From the event until so many of them were back, for good; undefined: not within the run. In seconds. */
  readonly backSeconds: {
    readonly half: number | undefined;
    readonly most: number | undefined;
    readonly all: number | undefined;
  };
  readonly connectedAtEnd: number;
  readonly peakDialsPerSecond: number;
  readonly peakLetInPerSecond: number;
  readonly peakAuthCallsPerSecond: number;
  readonly peakRefusalsPerSecond: number;
  /** How long a message or a handshake waited for the busiest node, at worst. */
  readonly worstDelayMs: number;
  readonly authCalls: number;
  /** Admissions of clients that had nothing to resume with. */
  readonly coldAdmissions: number;
  readonly fallen: number;
  readonly totals: Recording["totals"];
  /** What Redis would have to do for the busiest second's admissions; not simulated. */
  readonly redisCoresAtPeak: number;
}

/** @param atSecond when the event happened. */
export function summarise(recording: Recording, settings: Settings, atSecond: number, { redis }: Figures): Summary {
  const { seconds, totals, peakLetInPerSecond } = recording;
  const peak = (of: (second: Second) => number): number =>
    seconds.reduce((most, second) => Math.max(most, of(second)), 0);
  const mostAway =
    settings.clients - seconds.reduce((least, { connected }) => Math.min(least, connected), settings.clients);
  /** The end of the last second in which more than this share of them was away. */
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
    peakLetInPerSecond,
    peakAuthCallsPerSecond: peak(({ authCalls }) => authCalls),
    peakRefusalsPerSecond: peak(({ refused, turnedAway }) => refused + turnedAway),
    worstDelayMs: peak(({ worstDelayMs }) => worstDelayMs),
    authCalls: totals.authCalls,
    coldAdmissions: totals.admitted - totals.resumed,
    fallen: totals.fallen,
    totals,
    redisCoresAtPeak:
      peak(({ admitted, resumed }) => (admitted - resumed) * redis.coldMicros + resumed * redis.resumeMicros) /
      1_000_000,
  };
}
