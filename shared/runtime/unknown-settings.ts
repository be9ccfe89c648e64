/** Finds environment variables that look like misspelled settings: otherwise the default would apply silently. */
import { isServiceLink } from "./service-links.ts";
import type { Environment } from "./settings.ts";

/**
 * One line for each variable that is not a setting, and begins with one of the prefixes or resembles a setting. Lines contain
 * no values.
 * @param options.names every setting that the environment may contain, including those of other programs.
 */
export function unknownSettings(
  environment: Environment,
  options: { names: readonly string[]; prefixes: readonly string[] },
): readonly string[] {
  const known = new Set(options.names);
  return Object.entries(environment)
    .filter(([name, value]) => value && !known.has(name))
    .filter(([name, value = ""]) => !isServiceLink(name, value))
    .map(([name]) => name)
    .sort()
    .flatMap((name) => {
      const prefix = options.prefixes.find((candidate) => name.toUpperCase().startsWith(candidate));
      const nearest = nearestName(name, options.names, prefix);
      if (nearest !== undefined) return [`${name} (did you mean ${nearest}?)`];
      return prefix === undefined ? [] : [name];
    });
}

/** With a prefix, half of the rest of the name may differ; without one a fifth, because it may belong to another program. */
function nearestName(name: string, names: readonly string[], prefix: string | undefined): string | undefined {
  let nearest: { name: string; edits: number } | undefined;
  for (const candidate of names) {
    if (prefix !== undefined && !candidate.startsWith(prefix)) continue;
    const allowed = Math.floor(prefix === undefined ? candidate.length / 5 : (candidate.length - prefix.length) / 2);
    if (Math.abs(candidate.length - name.length) > allowed) continue;
    const edits = editDistance(name.toUpperCase(), candidate);
    if (edits <= allowed && (nearest === undefined || edits < nearest.edits)) nearest = { name: candidate, edits };
  }
  return nearest?.name;
}

/** Characters to insert, delete or replace (Levenshtein). */
function editDistance(one: string, other: string): number {
  let above = Array.from({ length: other.length + 1 }, (_, column) => column);
  for (let row = 0; row < one.length; row++) {
    const line = [row + 1];
    for (let column = 1; column <= other.length; column++) {
      const replaced = (above[column - 1] ?? 0) + (one[row] === other[column - 1] ? 0 : 1);
      line.push(Math.min(replaced, (above[column] ?? 0) + 1, (line[column - 1] ?? 0) + 1));
    }
    above = line;
  }
  return above[other.length] ?? 0;
}
