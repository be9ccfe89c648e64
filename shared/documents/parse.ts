/** The text of a document, YAML or JSON, to its value. */
import { Worker } from "node:worker_threads";
import { TidegateError } from "../errors.ts";
import { ConcurrencyLimit } from "../http/concurrency-limit.ts";
import { measureJson, parseJson } from "../json.ts";
import { InvalidDocument } from "./invalid-document.ts";
import type { DocumentName } from "./store.ts";
import type { YamlResult, YamlTask } from "./yaml-worker.ts";

/** Several thousand routes: reading it is work for the event loop of every process. */
export const maxDocumentBytes = 512 * 1024;
/** Brackets, commas and colons of a document as JSON. A route has about a dozen. */
export const maxDocumentStructure = 150_000;
/** A YAML document of the greatest size takes less than a second. */
const yamlDeadlineMs = 5_000;
const yamlHeapMb = 256;

/** One at a time: each takes a core and memory of its own. */
const turns = new ConcurrencyLimit({ maxInFlight: 1, maxWaiting: 10 });

/**
 * YAML or JSON to a value. YAML is parsed beside the event loop, and given up after a deadline.
 * @throws InvalidDocument with the syntax errors, by line and column. @throws TidegateError where too many wait for their turn.
 */
export async function parseDocumentText(name: DocumentName, text: string): Promise<unknown> {
  checkSize(name, text);
  const value = parseJson(text);
  if (value !== undefined) return value;
  if (!(await turns.acquire(yamlDeadlineMs))) {
    throw new TidegateError("rate_limited", "other documents are being read", { retryAfterMs: yamlDeadlineMs });
  }
  const result = await runWorker({ text, maxJsonLength: maxDocumentBytes }).finally(() => turns.release());
  if ("findings" in result) throw new InvalidDocument(name, result.findings);
  checkSize(name, result.json);
  return parseJson(result.json);
}

function checkSize(name: DocumentName, text: string): void {
  if (Buffer.byteLength(text) > maxDocumentBytes) {
    throw new InvalidDocument(name, [`is larger than ${maxDocumentBytes} bytes`]);
  }
  if (measureJson(text).structure > maxDocumentStructure) {
    throw new InvalidDocument(name, [`has more than ${maxDocumentStructure} brackets, commas and colons`]);
  }
}

async function runWorker(workerData: YamlTask): Promise<YamlResult> {
  const worker = new Worker(new URL("yaml-worker.ts", import.meta.url), {
    workerData,
    resourceLimits: { maxOldGenerationSizeMb: yamlHeapMb },
  });
  return new Promise((resolve) => {
    const settle = (result: YamlResult): void => {
      clearTimeout(timer);
      resolve(result);
      void worker.terminate();
    };
    const timer = setTimeout(() => settle({ findings: ["takes too long to parse"] }), yamlDeadlineMs);
    worker.once("message", settle);
    worker.on("error", (error) => settle({ findings: [`could not be parsed: ${error.message}`] }));
    worker.once("exit", () => settle({ findings: ["could not be parsed"] }));
  });
}
