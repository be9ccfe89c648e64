/** The code samples of README and docs: blocks between ``` lines with a language. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const root = join(import.meta.dirname, "../..");

export interface Sample {
  /** Relative to the repository. */
  file: string;
  language: string;
  code: string;
}

/** All of them, in order. */
export function allSamples(): Sample[] {
  const docs = readdirSync(join(root, "docs"), { recursive: true, encoding: "utf8" });
  const files = ["README.md", "client/README.md", "examples/python/README.md", "loadtest/README.md"];
  return [...files, ...docs.filter((file) => file.endsWith(".md")).map((file) => `docs/${file}`)].flatMap(samplesOf);
}

export function samplesOf(file: string): Sample[] {
  const text = readFileSync(join(root, file), "utf8");
  return [...text.matchAll(/^( *)```(\w+)\n([\s\S]*?)^\1```$/gm)].map(([, indent = "", language = "", code = ""]) => ({
    file,
    language,
    code: code.replaceAll(new RegExp(`^${indent}`, "gm"), ""),
  }));
}

/** The first one of a file with this language. */
export function sampleOf(file: string, language: string): string {
  const sample = samplesOf(file).find((one) => one.language === language);
  if (!sample) throw new Error(`no sample in ${language} in ${file}`);
  return sample.code;
}
