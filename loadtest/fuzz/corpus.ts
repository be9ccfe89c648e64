/** Inputs that have shown something once: replayed first in each run. */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Input, inputValidator } from "./input.ts";

const folder = join(import.meta.dirname, "corpus");
/** What is larger cannot be reviewed. */
const maxFileBytes = 16_384;

export interface CorpusEntry {
  readonly target: string;
  /** What it showed when it was found. */
  readonly found: string;
  /** In this order. */
  readonly inputs: readonly Input[];
  /** It blocked a process: what it costs is measured. */
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

/** @returns the name of the file; undefined where there is such a one already, or it would be too large. */
export function keep(entry: CorpusEntry): string | undefined {
  const text = `${JSON.stringify(entry, undefined, 2)}\n`;
  if (text.length > maxFileBytes) return undefined;
  const file = `${entry.target}-${createHash("sha256").update(entry.found).digest("hex").slice(0, 8)}.json`;
  if (readdirSync(folder).includes(file)) return undefined;
  writeFileSync(join(folder, file), text);
  return file;
}
