/** The seconds of each run as CSV. */
import type { Recording } from "./recorder.ts";

export function seriesCsv(runs: readonly { name: string; recording: Recording }[]): string {
  const columns = Object.keys(runs[0]?.recording.seconds[0] ?? {});
  const lines = runs.flatMap(({ name, recording }) =>
    recording.seconds.map((second) => [name, ...Object.values(second)].join(",")),
  );
  return `${["run", ...columns].join(",")}\n${lines.join("\n")}\n`;
}
