import { Settings } from "typebox/system";

/** The library stops after eight by itself: whoever mends a document wants to see them all. */
Settings.Set({ maxErrors: 1_000 });

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
      return path === "" ? text : `${path}: ${text}`;
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
  return values === undefined ? "" : ` (${[values].flat().join(", ")})`;
}
