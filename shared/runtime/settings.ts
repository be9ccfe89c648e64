/** Settings from environment variables: a program declares a table, which is checked as a whole. */
import type { TSchema } from "typebox";
import { Compile } from "typebox/compile";
import { withoutSecrets } from "./masking.ts";
import { describeFindings } from "./schema-errors.ts";
import { isServiceLinkPort } from "./service-links.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

export interface Setting<Value> {
  /** Of the parsed value. */
  schema: TSchema;
  /** Parses the text of the variable. Throws an error that says what to change. */
  parse: (text: string) => unknown;
  /** Absent: the setting is required. */
  fallback?: Value;
  secret: boolean;
  /** For docs/settings.md. */
  description?: string;
  /** The default in docs/settings.md where it depends on the machine or on another setting. */
  shownFallback?: string;
}

export type SettingTable = Readonly<Record<string, Setting<unknown>>>;
/** The checked values of a table, by variable name. */
export type SettingValues<T extends SettingTable> = {
  readonly [Name in keyof T]: T[Name] extends Setting<infer Value> ? Value : never;
};

/** All findings of a failed check. The message lists them one per line, then variables that look like misspelled settings. */
export class SettingsError extends Error {
  readonly findings: readonly string[];
  constructor(findings: readonly string[], unknown: readonly string[] = []) {
    const lines = ["these settings must be changed:", ...findings.map((finding) => `  ${finding}`)];
    if (unknown.length > 0) lines.push(`these are no settings: ${unknown.join(", ")}`);
    super(lines.join("\n"));
    this.name = "SettingsError";
    this.findings = findings;
  }
}

/**
 * Reads a table of settings. An empty variable counts as absent.
 * @param refine finds what is wrong across settings. It gets the raw text of values that are not valid.
 * @param unknown variables that are not settings, as described by `unknownSettings`; an error lists them too.
 * @throws SettingsError with every finding, without values of secret settings.
 */
export function readSettings<T extends SettingTable>(
  table: T,
  environment: Environment,
  refine: (values: SettingValues<T>) => readonly string[] = () => [],
  unknown: readonly string[] = [],
): SettingValues<T> {
  const findings: string[] = [];
  const values: Record<string, unknown> = {};
  for (const [name, setting] of Object.entries(table)) {
    const given = environment[name];
    if (given === undefined || given === "") {
      if ("fallback" in setting) values[name] = setting.fallback;
      else findings.push(`${name}: is required`);
      continue;
    }
    // For refine, a value that is not valid still counts as given.
    values[name] = given;
    try {
      values[name] = setting.parse(given);
      for (const line of describeFindings(Compile(setting.schema).Errors(values[name]))) {
        findings.push(`${name}: ${line}${shown(setting, given)}`);
      }
    } catch (error) {
      findings.push(`${name}: ${(error as Error).message}${shown(setting, given)}${kubernetesHint(name, given)}`);
    }
  }
  const checked = values as SettingValues<T>;
  findings.push(...refine(checked));
  if (findings.length > 0) throw new SettingsError(findings, unknown);
  return checked;
}

function shown(setting: Setting<unknown>, given: string): string {
  // Text with an @ may be a malformed URL with a password, and a query may hold a key.
  return setting.secret || /[@?]/.test(given) ? "" : `, not ${JSON.stringify(given)}`;
}

/** In Kubernetes a service named `gateway` sets GATEWAY_PORT in every pod of its namespace. */
function kubernetesHint(name: string, given: string): string {
  if (!isServiceLinkPort(name, given)) return "";
  const service = name.slice(0, -"_PORT".length).toLowerCase().replaceAll("_", "-");
  return ` (Kubernetes sets it for the service "${service}": set enableServiceLinks: false in the pod's spec, or set ${name} there)`;
}

/** For the log: secrets become `***`, as do credentials and queries in URLs. */
export function maskedSettings<T extends SettingTable>(table: T, values: SettingValues<T>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(table).map(([name, setting]) => {
      const value = values[name as keyof T] as unknown;
      if (value === undefined) return [name, undefined];
      return [name, setting.secret ? "***" : mapStrings(value, withoutSecrets)];
    }),
  );
}

function mapStrings(value: unknown, change: (text: string) => string): unknown {
  if (typeof value === "string") return change(value);
  return Array.isArray(value) ? value.map((item) => mapStrings(item, change)) : value;
}

/** For the entry of a program: prints a settings error for the operator and exits with code 78 (EX_CONFIG). */
export function orExit<Value>(read: () => Value): Value {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof SettingsError)) throw error;
    process.stderr.write(`${error.message}\n`);
    return process.exit(78);
  }
}

/** As {@link orExit}, for an asynchronous check. */
export async function orExitLater(check: Promise<void>): Promise<void> {
  try {
    await check;
  } catch (error) {
    orExit(() => {
      throw error as Error;
    });
  }
}
