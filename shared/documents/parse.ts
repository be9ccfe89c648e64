/** Parses the text of a document, YAML or JSON. */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { TidegateError } from "../runtime/errors.ts";
import { maxJsonMembers, parseJson } from "../json/json.ts";
import { type JsonScan, maxJsonDepth, scanJson } from "../json/json-scan.ts";
import { InvalidDocument } from "../runtime/invalid-document.ts";
import type { DocumentName } from "./contract.ts";
import type { YamlResult } from "./yaml-to-json.ts";

/** Enough for several thousand routes. Reading a document occupies the event loop of every process. */
export const maxDocumentBytes = 512 * 1024;
/** Brackets, commas and colons of a document, counted as JSON. A route has about a dozen. */
export const maxDocumentStructure = 150_000;
/** The largest YAML documents take about a second, and half of the memory below. */
const yamlDeadlineMs = 5_000;
const yamlHeapMb = 192;
const yamlProgram = fileURLToPath(new URL("yaml-to-json.ts", import.meta.url));

/** YAML documents are parsed one at a time, because each occupies a core and memory of its own. Further ones are rejected. */
const maxWaiting = 3;

/**
 * YAML is parsed in a process of its own, with bounds on time and memory.
 * @throws InvalidDocument with the syntax errors by line and column. @throws TidegateError where too many documents wait.
 */
export async function parseDocumentText(name: DocumentName, text: string): Promise<unknown> {
  if (Buffer.byteLength(text) > maxDocumentBytes) throw new InvalidDocument(name, [tooLarge]);
  const scan = scanJson(text);
  if (scan.kind !== "malformed") return parseScanned(name, text, scan);
  const result = await inTurn(() => yamlToJson(text));
  if ("findings" in result) throw new InvalidDocument(name, result.findings);
  // Aliases and escapes may make the JSON longer than the YAML.
  if (Buffer.byteLength(result.json) > 2 * maxDocumentBytes) throw new InvalidDocument(name, [tooLarge]);
  return parseScanned(name, result.json, scanJson(result.json));
}

const tooLarge = `is larger than ${maxDocumentBytes} bytes`;

function parseScanned(name: DocumentName, json: string, { kind, structure, widest }: JsonScan): unknown {
  const excess = [
    ...(structure > maxDocumentStructure ? [`has more than ${maxDocumentStructure} brackets, commas and colons`] : []),
    ...(widest > maxJsonMembers ? [`an object has more than ${maxJsonMembers} members`] : []),
    ...(kind === "too_deep" ? [`is nested deeper than ${maxJsonDepth} levels`] : []),
  ];
  if (excess.length > 0) throw new InvalidDocument(name, excess);
  return parseJson(json);
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
      // maxBuffer: aliases may expand to much more than the text.
      { env: {}, timeout: yamlDeadlineMs, killSignal: "SIGKILL", maxBuffer: 2 * maxDocumentBytes },
      (error, output) => {
        // Parsed even on success: the output is truncated where the process ends just as the deadline passes.
        const result = error ? undefined : (parseJson(output) as YamlResult | undefined);
        if (result) resolve(result);
        else if (error && "syscall" in error) reject(notNow(error));
        else resolve({ findings: ["takes too much time or memory to parse"] });
      },
    );
    // The process may exit before it has read everything.
    child.stdin?.on("error", () => undefined);
    child.stdin?.end(yaml);
  });
}

/** Too many documents wait, or the system cannot start a process. */
function notNow(cause?: Error): TidegateError {
  return new TidegateError("upstream_unavailable", "the server cannot parse YAML now", {
    retryAfterMs: yamlDeadlineMs,
    cause,
  });
}
