import { Settings } from "typebox/system";
import { excerpt } from "./excerpt.ts";
import { wellFormedPattern } from "../protocol/grammar.ts";

/** Findings that are listed: enough to mend a document by, and an answer that cannot be many times as large as its request. */
export const maxFindings = 100;
const maxFindingLength = 300;

/** The library stops after eight by itself. */
Settings.Set({ maxErrors: maxFindings });

/** Names in one line; a request may have as many as fit. */
const maxNames = 20;
interface Finding {
  instancePath: string;
  message?: string;
  keyword?: string;
  params?: object;
}

/**
 * One line per broken rule, `path: what is wrong`, for the person who has to mend the input.
 * Takes the errors of TypeBox and of Ajv.
 * @param max of lines, besides the one that says how many more there are.
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

/** With more members than any schema here has, a value is not worth the time that a list of its findings takes. */
const maxMembers = 1_000;

/** What lists its findings, such as a compiled schema. */
export interface Explained {
  Errors(value: unknown): readonly Finding[];
}

/**
 * As {@link describeFindings}, for a value that did not pass.
 * @param options.path of the value in its document, as a JSON pointer.
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

/** Findings that name what was sent, bounded in number and length. */
export function boundFindings(findings: readonly string[]): string[] {
  // Bounded once, they end with the line that says how many more there are.
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
