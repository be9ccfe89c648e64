/**
 * A program: reads YAML from standard input and writes a {@link YamlResult} to standard output. Time and memory of the YAML
 * library are not bounded by the size of a text (80 KB of `? ` take a minute and a gigabyte). The parent process bounds both
 * by running this program separately.
 */
import { text } from "node:stream/consumers";
import { type Document, isNode, isScalar, LineCounter, parseDocument, visit, type YAMLParseError } from "yaml";

export type YamlResult = { json: string } | { findings: string[] };

/** The parent process lists fewer findings than this. */
const maxErrors = 1_000;
/** Counts each alias with everything it expands to. */
const maxAliasCount = 100;

function toJson(yaml: string): YamlResult {
  const lineCounter = new LineCounter();
  // uniqueKeys: the library's own check of keys takes quadratic time.
  const document = parseDocument(yaml, {
    lineCounter,
    prettyErrors: true,
    // A second document is an error then.
    logLevel: "error",
    uniqueKeys: false,
    intAsBigInt: true,
  });
  const findings = [...document.errors.slice(0, maxErrors).map(whatAndWhere), ...repeatedKeys(document, lineCounter)];
  if (findings.length > 0) return { findings };
  const json = JSON.stringify(document.toJS({ maxAliasCount }), (name, value: unknown) => {
    if (typeof value === "number" && !Number.isFinite(value)) findings.push(`${name}: JSON has no such number`);
    return typeof value === "bigint" ? rawJson(value) : value;
  }) as string | undefined;
  if (findings.length > 0) return { findings };
  if (json === undefined) return { findings: ["is empty"] };
  return { json };
}

/** Keeps all digits. */
function rawJson(integer: bigint): unknown {
  return (JSON as unknown as { rawJSON(text: string): unknown }).rawJSON(String(integer));
}

/** Keeps the first line of a message: the others show an excerpt of the text. */
function whatAndWhere({ code, message, linePos }: YAMLParseError): string {
  if (code === "MULTIPLE_DOCS") return `a second document begins at line ${linePos?.[0].line}: give one`;
  const [line = ""] = message.split("\n", 1);
  return line.replace(/:$/, "");
}

function repeatedKeys(document: Document, lineCounter: LineCounter): string[] {
  const findings: string[] = [];
  visit(document, {
    Map: (_key, { items }) => {
      const seen = new Set<string>();
      for (const { key } of items) {
        const name = isScalar(key) ? String(key.value) : String(key);
        if (seen.has(name)) {
          const { line, col } = lineCounter.linePos((isNode(key) ? key.range?.[0] : undefined) ?? 0);
          findings.push(`the key "${name}" is given twice at line ${line}, column ${col}`);
        }
        if (findings.length === maxErrors) return visit.BREAK;
        seen.add(name);
      }
      return undefined;
    },
  });
  return findings;
}

function convert(yaml: string): YamlResult {
  try {
    return toJson(yaml);
  } catch (error) {
    return { findings: [(error as Error).message] };
  }
}

process.stdout.write(JSON.stringify(convert(await text(process.stdin))));
