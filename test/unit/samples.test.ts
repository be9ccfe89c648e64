/** Every sample of README and docs is what it says: TypeScript that compiles under `strict`, YAML, JSON, shell and so on. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { parseDocument } from "yaml";
import { allSamples, samplesOf } from "../support/samples.ts";

const root = join(import.meta.dirname, "../..");
const samples = allSamples();
const typed = new Set(["ts", "tsx", "js"]);
/** Programs that other tests run, with the fragments of docs/webhooks-out.md. */
const receivers: Readonly<Record<string, string>> = { ts: "receive.ts", python: "receive.py", go: "go/receive.go" };

/** What surrounds a sample: names that its text explains, or the function that it is the body of. In the file's order. */
const surroundings: Readonly<Record<string, readonly string[]>> = {
  "README.md": ["declare function fetchToken(): Promise<string>; declare function draw(card: unknown): void; CODE"],
  "client/README.md": [
    `declare function render(card: object): void;
     declare function loadSnapshot(position: { epoch: string; offset: number }): Promise<void>;
     declare function showNotice(code: string, reason: string): void; CODE`,
    `import type { Client } from "@tidegate/client"; declare const client: Client;
     declare function apply(event: string, data: unknown): void; CODE`,
    "declare function fetchToken(): Promise<string>; CODE",
  ],
  "docs/contributing.md": [
    `declare function test(title: string, run: () => void): void; declare function excerpt(text: string): string;
     declare function expect(value: string): { toBe(other: string): void }; CODE`,
  ],
  "docs/first-service.md": [
    "declare function fetchToken(): Promise<string>; declare function show(note: unknown): void; CODE",
  ],
  "docs/queues.md": [
    `interface Row { fence: number; ids: Set<string>; apply(edit: object): void }
     export function take(row: Row, fence: number, ceId: string, edit: object): number { CODE }`,
  ],
  "docs/webhooks-out.md": [
    `declare const headers: Record<string, string | undefined>; declare const taken: Set<string>;
     declare const rawBody: string; declare const response: { writeHead(status: number): { end(): void } };
     declare function apply(key: string, change: object): void; declare function remember(id: string): void; CODE`,
  ],
};

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "samples-"));
  symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
  writeFileSync(join(folder, "package.json"), '{ "type": "module" }');
});
afterAll(() => rmSync(folder, { recursive: true }));

function compile(files: readonly string[], options: object): string {
  const compilerOptions = {
    strict: true,
    noUncheckedIndexedAccess: true,
    noEmit: true,
    target: "ES2022",
    lib: ["ES2022", "DOM", "DOM.Iterable"],
    moduleDetection: "force",
    jsx: "react-jsx",
    types: [],
    skipLibCheck: true,
    ...options,
  };
  writeFileSync(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions, files }));
  const { stdout, stderr } = spawnSync(join(root, "node_modules/.bin/tsc"), ["-p", folder], { encoding: "utf8" });
  return stdout + stderr;
}

test("SDK-20: every sample in TypeScript and JavaScript compiles under strict, for bundlers and for Node", () => {
  const count = new Map<string, number>();
  const files = samples
    .filter(({ language }) => typed.has(language))
    .map(({ file, language, code }) => {
      const number = count.get(file) ?? 0;
      count.set(file, number + 1);
      const name = `${file.replaceAll(/[^A-Za-z]+/g, "-")}-${number + 1}.${language === "tsx" ? "tsx" : "ts"}`;
      writeFileSync(
        join(folder, name),
        (surroundings[file]?.[number] ?? "CODE").replace("CODE", () => code),
      );
      return name;
    });
  expect(files.length).toBeGreaterThan(7);
  expect(compile(files, { module: "ESNext", moduleResolution: "bundler" })).toBe("");
  const ours = files.filter((name) => name.includes("client-README"));
  expect(compile(ours, { module: "NodeNext", moduleResolution: "NodeNext" })).toBe("");
});

/** By language: what is wrong with a sample, empty if nothing is. */
const problemOf: Readonly<Record<string, (code: string) => string>> = {
  yaml: (code) => parseDocument(code).errors.join("\n"),
  sh: (code) => spawnSync("bash", ["-n"], { input: code, encoding: "utf8" }).stderr,
  python: (code) => {
    return spawnSync("python3", ["-c", "import ast, sys; ast.parse(sys.stdin.read())"], {
      input: code,
      encoding: "utf8",
    }).stderr;
  },
  json: (code) => {
    try {
      JSON.parse(code);
      return "";
    } catch (error) {
      return String(error);
    }
  },
};

test("SDK-20: every sample in YAML, JSON, shell and Python is valid", () => {
  const checked = samples.filter(({ language }) => language in problemOf);
  expect(checked.length).toBeGreaterThan(30);
  const problems = checked.map((sample) => ({ ...sample, problem: problemOf[sample.language]?.(sample.code) }));
  expect(problems.filter(({ problem }) => problem !== "")).toEqual([]);
});

test("SDK-20: the samples of a receiver are lines of the receivers that other tests run", () => {
  const fragments = samplesOf("docs/webhooks-out.md").filter(({ language }) => language in receivers);
  expect(fragments.map(({ language }) => language)).toEqual(Object.keys(receivers));
  for (const { language, code } of fragments) {
    const program = readFileSync(join(root, "examples/receive", receivers[language] ?? ""), "utf8").split("\n");
    const lines = new Set(program.map((line) => line.trim()));
    expect(code.split("\n").filter((line) => !lines.has(line.trim()))).toEqual([]);
  }
});
