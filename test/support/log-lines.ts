/** Lines of a program's log. */
type LogLine = Record<string, unknown> & { level: number; msg: string };

const warnLevel = 40;

/** @param log JSON lines. @returns those at `level` or above that contain the phrase. */
export function linesWith(log: string, phrase: string, level = warnLevel): LogLine[] {
  return log
    .split("\n")
    .filter((line) => line.includes(phrase))
    .map((line) => JSON.parse(line) as LogLine)
    .filter((line) => line.level >= level);
}
