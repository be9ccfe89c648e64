/** Draws the curves of several runs for comparison. */
import { type Curve, drawChart, type Panel } from "./chart.ts";
import type { Recording, Second } from "./recorder.ts";

export interface DrawnRun {
  readonly title: string;
  readonly clients: number;
  readonly recording: Recording;
}

export interface PictureOptions {
  readonly title: string;
  readonly subtitle: string;
  readonly budgetPerSecond: number | undefined;
}

export function drawRuns(runs: readonly DrawnRun[], { title, subtitle, budgetPerSecond }: PictureOptions): string {
  const curves = (of: (second: Second, clients: number) => number): Curve[] =>
    runs.map(({ title, clients, recording }) => ({
      label: title,
      values: recording.seconds.map((second) => of(second, clients)),
    }));
  const mark = budgetPerSecond !== undefined && { mark: { label: "the fleet's budget", value: budgetPerSecond } };
  const panels: Panel[] = [
    {
      title: "Clients that have a session",
      unit: "%",
      curves: curves(({ connected }, clients) => (connected / clients) * 100),
    },
    { title: "Dials that reach the balancer", unit: "per second", curves: curves(({ dials }) => dials) },
    { title: "Handshakes admitted", unit: "per second", curves: curves(({ admitted }) => admitted), ...mark },
    { title: "Calls of the auth service", unit: "per second", curves: curves(({ authCalls }) => authCalls) },
  ];
  return drawChart({ title, subtitle, panels });
}
