/** Settings of a run, from the command line. */
import { randomBytes } from "node:crypto";
import { Type } from "typebox";
import { readArguments, toggle } from "../../shared/runtime/command-line.ts";
import { integer, list, optional, text } from "../../shared/runtime/setting-kinds.ts";
import { targets } from "./targets.ts";

const names = targets.map(({ name }) => name);
const defaultSeconds = 60;

const settings = {
  "--seconds": optional(integer({ min: 1, max: 1_000_000 })),
  "--frames": optional(integer({ min: 0, max: 1e10 })),
  "--requests": optional(integer({ min: 0, max: 1e10 })),
  "--seed": text({ fallback: randomBytes(4).toString("hex") }),
  "--target": list(Type.Enum(names), { fallback: names }),
  "--only": optional(integer({ min: 0, max: Number.MAX_SAFE_INTEGER })),
  "--keep": toggle(),
  "--json": toggle(),
};

export interface FuzzSettings {
  readonly seed: string;
  /** Infinity: runs until the counts are reached. */
  readonly seconds: number;
  /** Frames to handle; 0: none, Infinity: no limit. */
  readonly frames: number;
  readonly requests: number;
  readonly targets: readonly string[];
  readonly only?: number;
  readonly keep: boolean;
  readonly json: boolean;
}

export interface FuzzOptions extends FuzzSettings {
  readonly signal?: AbortSignal;
  readonly say: (line: string) => void;
  /** Time to find and minimise the inputs behind one finding. */
  readonly huntMs: number;
  /** Multiplies the limits of single inputs; above 1 where the machine is shared. */
  readonly costFactor: number;
}

/** Reads the command line; an invalid argument ends the program with exit code 78. */
export function readFuzzSettings(): FuzzSettings {
  const given = readArguments(settings, {}, (read) =>
    read["--only"] !== undefined && read["--target"].length !== 1 ? ["--only: give one --target with it"] : [],
  );
  const { "--seconds": seconds, "--frames": frames, "--requests": requests, "--only": only } = given;
  const counted = frames !== undefined || requests !== undefined;
  return {
    seed: given["--seed"],
    seconds: seconds ?? (counted ? Infinity : defaultSeconds),
    frames: counted ? (frames ?? 0) : Infinity,
    requests: counted ? (requests ?? 0) : Infinity,
    targets: given["--target"],
    ...(only !== undefined && { only }),
    keep: given["--keep"],
    json: given["--json"],
  };
}
