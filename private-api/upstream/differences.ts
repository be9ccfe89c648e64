/** Compares the answers of a service and of its shadow. Pure. */
import type { ServiceAnswer } from "../../shared/services/service-client.ts";
import { parseJson } from "../../shared/json/json.ts";
import { scanJson } from "../../shared/json/json-scan.ts";

type Answered = ServiceAnswer & { kind: "answered" };

const maxPathLength = 200;
/** JSON values in one answer; two answers of the most expensive shape with this many take 20 ms to parse and compare. */
const maxValues = 20_000;

/**
 * Answers are the same with the same class of status and the same JSON, in any order of members; other text must be equal.
 * @returns `["status"]`, or JSON pointers of the first members that differ (`""`: the whole), at most `most`; never a value.
 * Undefined: the texts differ and are too large to compare as JSON.
 */
export function differences(one: Answered, other: Answered, most: number): string[] | undefined {
  if (Math.floor(one.status / 100) !== Math.floor(other.status / 100)) return ["status"];
  if (one.body.equals(other.body)) return [];
  const scans = [scanJson(one.body), scanJson(other.body)];
  if (scans.some((scan) => scan.kind !== "json")) return [""];
  if (scans.some((scan) => scan.values > maxValues)) return undefined;
  const found: string[] = [];
  collect(parseJson(one.body.toString("utf8")), parseJson(other.body.toString("utf8")), "", found, most);
  return found.map((path) => path.slice(0, maxPathLength));
}

function collect(one: unknown, other: unknown, path: string, found: string[], most: number): void {
  if (found.length >= most || one === other) return;
  if (!isObject(one) || !isObject(other) || Array.isArray(one) !== Array.isArray(other)) {
    found.push(path);
    return;
  }
  for (const name of new Set([...Object.keys(one), ...Object.keys(other)])) {
    if (found.length >= most) return;
    const inside = `${path}/${name.replaceAll("~", "~0").replaceAll("/", "~1")}`;
    if (Object.hasOwn(one, name) && Object.hasOwn(other, name)) collect(one[name], other[name], inside, found, most);
    else found.push(inside);
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}
