/** What a run is told on its command line. */
import { randomBytes } from "node:crypto";
import { parseArgs } from "node:util";
import { targets } from "./targets.ts";

export const usage = `usage: npm run fuzz -- [--seconds N | --frames N --requests N] [--seed TEXT] [--target NAME[,NAME]]
                      [--only NUMBER] [--keep] [--json]

  --seconds    how long to fuzz (default 60, unless frames or requests are given)
  --frames     until so many websocket frames were handled
  --requests   until so many requests were answered
  --seed       repeats a run's inputs (default: random, printed)
  --target     ${targets.map(({ name }) => name).join(", ")} (default: all)
  --only       plays one input of one target, and prints it
  --keep       writes what is found to loadtest/fuzz/corpus, as small as it gets
  --json       the report for machines, on stdout
`;

export interface FuzzSettings {
  readonly seed: string;
  /** Infinity: until the numbers are reached. */
  readonly seconds: number;
  /** 0: no frames. */
  readonly frames: number;
  readonly requests: number;
  readonly targets: readonly string[];
  readonly only?: number;
  readonly keep: boolean;
  readonly json: boolean;
}

/** @throws Error that says what is wrong. */
export function readFuzzSettings(args: readonly string[]): FuzzSettings {
  const { values } = parseArgs({
    args: [...args],
    options: {
      seconds: { type: "string" },
      frames: { type: "string" },
      requests: { type: "string" },
      seed: { type: "string", default: randomBytes(4).toString("hex") },
      target: { type: "string" },
      only: { type: "string" },
      keep: { type: "boolean", default: false },
      json: { type: "boolean", default: false },
    },
  });
  const counted = values.frames !== undefined || values.requests !== undefined;
  const count = (name: "frames" | "requests"): number =>
    counted ? whole(name, values[name] ?? "0", 0, 1e10) : Infinity;
  const names = targets.map(({ name }) => name);
  const chosen = values.target?.split(",") ?? names;
  const unknown = chosen.filter((name) => !names.includes(name));
  if (unknown.length > 0) throw new Error(`--target: there is no target "${unknown.join(", ")}"`);
  if (values.only !== undefined && chosen.length !== 1) throw new Error("--only: give one --target with it");
  return {
    seed: values.seed,
    seconds: values.seconds === undefined ? (counted ? Infinity : 60) : whole("seconds", values.seconds, 1, 1_000_000),
    frames: count("frames"),
    requests: count("requests"),
    targets: chosen,
    ...(values.only !== undefined && { only: whole("only", values.only, 0, Number.MAX_SAFE_INTEGER) }),
    keep: values.keep,
    json: values.json,
  };
}

function whole(name: string, text: string, min: number, max: number): number {
  const value = Number(text.trim() === "" ? Number.NaN : text);
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new Error(`--${name} must be a whole number from ${min} to ${max}, not "${text}"`);
  }
  return value;
}
