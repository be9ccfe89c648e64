/** Arguments of a program: declared and checked like settings. The comment at the head of the program is its usage. */
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { Type } from "typebox";
import { readSettings, type Setting, SettingsError, type SettingTable, type SettingValues } from "./settings.ts";

/** A flag without a value. */
export function toggle(): Setting<boolean> {
  return { schema: Type.Boolean(), parse: (text) => text === "true", fallback: false, secret: false };
}

/**
 * Reads the arguments of this program. `--help` prints the usage and exits; a wrong argument exits with code 78.
 * @param table `--name`: a flag; anything else: a variable of the environment.
 * @param variables by flag: the environment variable that stands in for it.
 * @param refine as in {@link readSettings}.
 */
export function readArguments<T extends SettingTable>(
  table: T,
  variables: Readonly<Record<string, string>> = {},
  refine?: (values: SettingValues<T>) => readonly string[],
): SettingValues<T> {
  try {
    const flags = parseFlags(table);
    if (flags["help"] === true) {
      process.stdout.write(`${usage()}\n`);
      process.exit(0);
    }
    const given = Object.keys(table).map((name) => {
      const flag = name.startsWith("--") ? flags[name.slice(2)] : undefined;
      return [name, flag === undefined ? process.env[variables[name] ?? name] : String(flag)];
    });
    return readSettings(table, Object.fromEntries(given) as Record<string, string | undefined>, refine);
  } catch (error) {
    if (error instanceof SettingsError || isParseError(error)) return refuseArguments(error.message);
    throw error;
  }
}

/** Prints the finding and the usage, and exits with code 78. */
export function refuseArguments(finding: string): never {
  process.stderr.write(`${finding}\n\n${usage()}\n`);
  process.exit(78);
}

function parseFlags(table: SettingTable): Record<string, string | boolean | undefined> {
  const options = Object.entries(table)
    .filter(([name]) => name.startsWith("--"))
    .map(([name, { schema }]) => [name.slice(2), { type: Type.IsBoolean(schema) ? "boolean" : "string" }] as const);
  return parseArgs({ options: { ...Object.fromEntries(options), help: { type: "boolean" } } }).values;
}

/** An unknown flag, a flag without its value, or an argument that is not a flag. */
function isParseError(error: unknown): error is Error {
  return error instanceof TypeError && String((error as { code?: unknown }).code).startsWith("ERR_PARSE_ARGS_");
}

function usage(): string {
  const [, comment = ""] = /^\/\*\*\n(.*?)\n \*\//s.exec(readFileSync(process.argv[1] ?? "", "utf8")) ?? [];
  return comment.replaceAll(/^ \* ?/gm, "");
}
