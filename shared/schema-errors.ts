import { Settings } from "typebox/system";
import { excerpt } from "./excerpt.ts";

/** The library stops after eight by itself: whoever mends a document wants to see them all. */
Settings.Set({ maxErrors: 1_000 });

/** Names in one line; a request may have as many as fit. */
const maxNames = 20;
/** Of the place of a finding: it contains names that the input chose. */
const maxPathLength = 300;

interface Finding {
  instancePath: string;
  message?: string;
  keyword?: string;
  params?: object;
}

/**
 * One line per broken rule, `path: what is wrong`, for the person who has to mend the input.
 * Takes the errors of TypeBox and of Ajv.
 */
export function describeFindings(findings: readonly Finding[]): string[] {
  const lines = findings
    .filter((finding) => finding.keyword !== "boolean" && finding.keyword !== "anyOf")
    .map((finding) => {
      const path = finding.instancePath
        .slice(1)
        .replaceAll("/", ".")
        .replace(/^\d+$/, (index) => `item ${Number(index) + 1}`);
      const text = (finding.message ?? "is not valid") + particulars(finding.params ?? {});
      return path === "" ? text : `${excerpt(path, maxPathLength)}: ${text}`;
    });
  return [...new Set(lines)];
}

/** The names or values that the message of a schema library leaves out. */
function particulars(params: object): string {
  const known = params as {
    additionalProperties?: string[];
    additionalProperty?: string;
    allowedValues?: (string | number)[];
    allowedValue?: string | number;
  };
  const values = known.additionalProperties ?? known.additionalProperty ?? known.allowedValues ?? known.allowedValue;
  if (values === undefined) return "";
  const names = [values].flat().map(String);
  const more = names.length > maxNames ? `, and ${names.length - maxNames} more` : "";
  return ` (${names
    .slice(0, maxNames)
    .map((name) => excerpt(name))
    .join(", ")}${more})`;
}
