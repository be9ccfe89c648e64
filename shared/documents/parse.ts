/** The text of a document, YAML or JSON, to its value. */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { TidegateError } from "../runtime/errors.ts";
import { maxJsonMembers, measureJson, parseJson } from "../json/json.ts";
import { InvalidDocument } from "../runtime/invalid-document.ts";
import type { DocumentName } from "./contract.ts";
import type { YamlResult } from "./yaml-to-json.ts";

/** Several thousand routes: reading it is work for the event loop of every process. */
export const maxDocumentBytes = 512 * 1024;
/** Brackets, commas and colons of a document as JSON. A route has about a dozen. */
export const maxDocumentStructure = 150_000;
/** A YAML document of the greatest size takes about a second, and half of the memory. */
const yamlDeadlineMs = 5_000;
const yamlHeapMb = 192;
const yamlProgram = fileURLToPath(new URL("yaml-to-json.ts", import.meta.url));

/** One at a time: each takes a core and memory of its own. So many wait for their turn. */
const maxWaiting = 3;

/**
 * YAML or JSON to a value. YAML is parsed in a process of its own, which may take its time and its memory and no more.
 * @throws InvalidDocument with the syntax errors, by line and column. @throws TidegateError where too many wait for their turn.
 */
export async function parseDocumentText(name: DocumentName, text: string): Promise<unknown> {
  if (Buffer.byteLength(text) > maxDocumentBytes) throw new InvalidDocument(name, [tooLarge]);
  const value = excessOf(text) === undefined ? parseJson(text) : undefined;
  if (value !== undefined) return value;
  const result = await inTurn(() => yamlToJson(text));
  if ("findings" in result) throw new InvalidDocument(name, result.findings);
  const excess = excessOf(result.json);
  if (excess !== undefined) throw new InvalidDocument(name, [excess]);
  return parseJson(result.json);
}

const tooLarge = `is larger than ${maxDocumentBytes} bytes`;

/** Why a JSON text is not parsed. */
function excessOf(json: string): string | undefined {
  if (Buffer.byteLength(json) > 2 * maxDocumentBytes) return tooLarge;
  const { structure, widest } = measureJson(json);
  if (structure > maxDocumentStructure) return `has more than ${maxDocumentStructure} brackets, commas and colons`;
  return widest > maxJsonMembers ? `an object has more than ${maxJsonMembers} members` : undefined;
}

let waiting = 0;
let last: Promise<unknown> = Promise.resolve();

async function inTurn<Result>(work: () => Promise<Result>): Promise<Result> {
  if (waiting > maxWaiting) throw notNow();
  waiting++;
  const result = last.then(work).finally(() => waiting--);
  last = result.catch(() => undefined);
  return result;
}

async function yamlToJson(yaml: string): Promise<YamlResult> {
  return new Promise((resolve, reject) => {
    const child = execFile(
      process.execPath,
      [`--max-old-space-size=${yamlHeapMb}`, yamlProgram],
      // Aliases may stand for much more than the text.
      { env: {}, timeout: yamlDeadlineMs, killSignal: "SIGKILL", maxBuffer: 2 * maxDocumentBytes },
      (error, output) => {
        // Its output is cut off where the deadline comes while it ends by itself.
        const result = error ? undefined : (parseJson(output) as YamlResult | undefined);
        if (result) resolve(result);
        else if (error && "syscall" in error) reject(notNow(error));
        else resolve({ findings: ["takes too much time or memory to parse"] });
      },
    );
    // It may be gone before it has read everything.
    child.stdin?.on("error", () => undefined);
    child.stdin?.end(yaml);
  });
}

/** Other documents are being read, or the system starts no process. */
function notNow(cause?: Error): TidegateError {
  return new TidegateError("upstream_unavailable", "YAML cannot be read now", { retryAfterMs: yamlDeadlineMs, cause });
}
