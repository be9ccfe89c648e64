import { Settings } from "typebox/system";
import { excerpt } from "./excerpt.ts";
import { wellFormedPattern } from "../protocol/grammar.ts";

/** Most findings in a list. Enough to correct a document; bounds the size of an answer relative to its request. */
export const maxFindings = 100;
const maxFindingLength = 300;

/** The default of the library is eight. */
Settings.Set({ maxErrors: maxFindings });

/** Most names in one finding. */
const maxNames = 20;
interface Finding {
  instancePath: string;
  message?: string;
  keyword?: string;
  params?: object;
}

/**
 * One line per violation: `path: what is wrong`. Takes errors of TypeBox and of Ajv.
 * @param max number of lines, not counting a last one that gives the number of further findings.
 */
export function describeFindings(findings: readonly Finding[], max: number = maxFindings): string[] {
  const lines = new Set<string>();
  let described = 0;
  for (const finding of findings) {
    if (lines.size === max) break;
    described++;
    if (finding.keyword !== "boolean" && finding.keyword !== "anyOf") lines.add(describe(finding));
  }
  return withRest([...lines], findings.length - described);
}

/** Exceeds every schema here: listing the findings of a larger value would waste time. */
const maxMembers = 1_000;

/** Lists its findings, e.g. a compiled schema. */
export interface Explained {
  Errors(value: unknown): readonly Finding[];
}

/**
 * As {@link describeFindings}, for a value that failed the check.
 * @param options.path JSON pointer to the value in its document.
 */
export function explain(
  validator: Explained,
  value: unknown,
  { path = "", max = maxFindings }: { path?: string; max?: number } = {},
): string[] {
  const members = typeof value === "object" && value !== null && !Array.isArray(value) ? Object.keys(value).length : 0;
  const findings =
    members > maxMembers ? [{ instancePath: "", message: `has ${members} members` }] : validator.Errors(value);
  return describeFindings(
    findings.map((finding) => ({ ...finding, instancePath: path + finding.instancePath })),
    max,
  );
}

/** Bounds findings in number and length: they may quote the input. */
export function boundFindings(findings: readonly string[]): string[] {
  // One more is allowed: findings that were bounded before end with "… and n more".
  if (findings.length <= maxFindings + 1) return findings.map(shortened);
  const listed = findings.slice(0, maxFindings).map(shortened);
  return withRest(listed, findings.length - listed.length);
}

function withRest(lines: string[], more: number): string[] {
  return more > 0 ? [...lines, `… and ${more} more`] : lines;
}

function describe(finding: Finding): string {
  const { instancePath, params = {} } = finding;
  const path = instancePath
    .slice(1)
    .replaceAll("/", ".")
    .replace(/^\d+$/, (index) => `item ${Number(index) + 1}`);
  const text = messageOf(finding) + particulars(params);
  return path === "" ? shortened(text) : `${shortened(path)}: ${text}`;
}

function shortened(text: string): string {
  return excerpt(text, maxFindingLength);
}

function messageOf({ message = "is not valid", params = {} }: Finding): string {
  const { pattern } = params as { pattern?: unknown };
  return pattern === wellFormedPattern.source ? "must be well-formed Unicode" : message;
}

/** Names or values that the schema library leaves out of its message. */
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
