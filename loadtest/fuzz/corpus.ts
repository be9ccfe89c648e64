/** Inputs that once showed a violation: each run replays them first. */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Input, inputValidator } from "./input.ts";

const folder = join(import.meta.dirname, "corpus");
/** Larger files cannot be reviewed. */
const maxFileBytes = 16_384;

export interface CorpusEntry {
  readonly target: string;
  /** The signature of the violation. */
  readonly found: string;
  /** Played in this order. */
  readonly inputs: readonly Input[];
  /** It blocked a process: the replay measures its cost. */
  readonly costly?: boolean;
}

export function readCorpus(): ReadonlyMap<string, CorpusEntry> {
  const files = readdirSync(folder).filter((file) => file.endsWith(".json"));
  return new Map(files.map((file) => [file, read(file)]));
}

function read(file: string): CorpusEntry {
  const entry = JSON.parse(readFileSync(join(folder, file), "utf8")) as CorpusEntry;
  if (!entry.inputs.every((input) => inputValidator.Check(input))) throw new Error(`corpus/${file} is not valid`);
  return entry;
}

/** @returns the name of the file; undefined where it exists, or would be too large. */
export function addToCorpus(entry: CorpusEntry): string | undefined {
  const text = `${JSON.stringify(entry, undefined, 2)}\n`;
  if (text.length > maxFileBytes) return undefined;
  const file = `${entry.target}-${createHash("sha256").update(entry.found).digest("hex").slice(0, 8)}.json`;
  if (readdirSync(folder).includes(file)) return undefined;
  writeFileSync(join(folder, file), text);
  return file;
}
