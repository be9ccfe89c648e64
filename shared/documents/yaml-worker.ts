/**
 * Turns YAML into JSON, in a thread of its own: the time that the library takes is not bounded by the size of the text, so
 * whoever starts this ends it at a deadline. The one place that knows the YAML library.
 */
import { parentPort, workerData } from "node:worker_threads";
import { type Document, isScalar, parseDocument, visit } from "yaml";

export interface YamlTask {
  text: string;
  /** Of the JSON: aliases may stand for much more than the text. */
  maxJsonLength: number;
}

export type YamlResult = { json: string } | { findings: string[] };

/** More findings would only be cut off by the one who asked. */
const maxErrors = 1_000;
/** An alias counts as all that it stands for. */
const maxAliasCount = 100;

function toJson({ text, maxJsonLength }: YamlTask): YamlResult {
  // The library's own check of keys compares each with each.
  const document = parseDocument(text, { prettyErrors: true, uniqueKeys: false, logLevel: "silent" });
  const findings = [
    ...document.errors.slice(0, maxErrors).map(({ message }) => message.trim()),
    ...repeatedKeys(document),
  ];
  if (findings.length > 0) return { findings };
  const json = JSON.stringify(document.toJS({ maxAliasCount })) as string | undefined;
  if (json === undefined) return { findings: ["is empty"] };
  if (json.length > maxJsonLength) return { findings: [`is larger than ${maxJsonLength} characters of JSON`] };
  return { json };
}

function repeatedKeys(document: Document): string[] {
  const findings: string[] = [];
  visit(document, {
    Map: (_key, { items }) => {
      const seen = new Set<string>();
      for (const { key } of items) {
        const name = isScalar(key) ? String(key.value) : String(key);
        if (seen.has(name)) findings.push(`the key "${name}" is given twice`);
        seen.add(name);
      }
      return findings.length < maxErrors ? undefined : visit.BREAK;
    },
  });
  return findings;
}

function run(task: YamlTask): YamlResult {
  try {
    return toJson(task);
  } catch (error) {
    return { findings: [(error as Error).message] };
  }
}

parentPort?.postMessage(run(workerData as YamlTask), []);
