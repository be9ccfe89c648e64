/** Turns the programs' JSON log lines into readable text. */

interface Line {
  level: number;
  time: string;
  msg?: string;
  err?: { message?: string; stack?: string };
  [member: string]: unknown;
}

const levels: Readonly<Record<number, string>> = {
  10: "trace",
  20: "debug",
  30: "info",
  40: "WARN",
  50: "ERROR",
  60: "FATAL",
};
/** Members left out of the readable line, or shown in their own place. */
const constant = new Set(["level", "time", "msg", "err", "pid", "hostname", "name"]);

/** A logger destination. @param print gets one text per log line, with an error's stack below it. */
export function readableLog(print: (text: string) => void): { write(json: string): void } {
  return { write: (json) => print(`${readable(JSON.parse(json) as Line)}\n`) };
}

function readable(line: Line): string {
  const { level, time, msg = "", err } = line;
  const more = Object.entries(line)
    .filter(([name]) => !constant.has(name))
    .map(([name, value]) => ` ${name}=${typeof value === "string" ? value : JSON.stringify(value)}`);
  const stack = err ? `\n${err.stack ?? err.message ?? ""}` : "";
  return `${new Date(time).toTimeString().slice(0, 8)} ${levels[level] ?? level} ${msg}${more.join("")}${stack}`;
}
