/** Settings from environment variables: declared once as a table, checked all at once, secrets masked. */
import { type TSchema, Type } from "typebox";
import { Compile } from "typebox/compile";
import { withoutSecrets } from "./masking.ts";
import { describeFindings } from "./schema-errors.ts";
import { isServiceLinkPort } from "./unknown-settings.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

export interface Setting<Value> {
  /** What the parsed value must satisfy. */
  schema: TSchema;
  /** From the text of the variable. Throws with what to change. */
  parse: (text: string) => unknown;
  /** Absent: the setting must be given. */
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

interface Common<Value> {
  fallback?: Value;
  secret?: boolean;
}

function declare<Value>(schema: TSchema, parse: Setting<Value>["parse"], common: Common<Value>): Setting<Value> {
  return {
    schema,
    parse,
    secret: common.secret ?? false,
    ...("fallback" in common && { fallback: common.fallback }),
  };
}

/** Describes a setting for docs/settings.md. */
export function about<Value>(description: string, setting: Setting<Value>, shownFallback?: string): Setting<Value> {
  return { ...setting, description, ...(shownFallback !== undefined && { shownFallback }) };
}

export function integer(options: { min: number; max: number; fallback?: number }): Setting<number> {
  return declare(
    Type.Integer({ minimum: options.min, maximum: options.max }),
    (text) => {
      if (!/^-?\d+$/.test(text)) throw new Error("must be a whole number");
      return Number(text);
    },
    options,
  );
}

/** A TCP port; 0 lets the system choose. */
export function port(fallback: number): Setting<number> {
  return integer({ min: 0, max: 65_535, fallback });
}

/** One line; a secret is taken as it is, byte for byte. */
export function text(options: Common<string> & { minLength?: number } = {}): Setting<string> {
  const schema = Type.String({ minLength: options.minLength ?? 1 });
  return declare(schema, (value) => (options.secret ? value : oneLine(value)), options);
}

/** A bearer token: a secret that an HTTP header can carry. */
export function token(): Setting<string> {
  const parse = (value: string): string => {
    if (!isHeaderToken(value)) throw new Error(headerTokenFinding);
    return value;
  };
  return declare(Type.String({ title: "bearer token" }), parse, { secret: true });
}

export const headerTokenFinding = "must be visible ASCII without spaces: also no line break at its end";

/** As the door reads it from `authorization: Bearer <token>`. */
export function isHeaderToken(value: string): boolean {
  return /^[\x21-\x7e]+$/.test(value);
}

/** @param finding what to change where the text does not match. */
export function matching(pattern: RegExp, finding: string, options: Common<string> = {}): Setting<string> {
  const check = (value: string): string => {
    if (!pattern.test(value)) throw new Error(finding);
    return value;
  };
  return declare(Type.String({ title: finding.replace(/^must be /, "") }), check, options);
}

/** A setting that may be absent. */
export function optional<Value>(setting: Setting<Value>): Setting<Value | undefined> {
  return { ...setting, fallback: undefined };
}

export function oneOf<const Value extends string>(values: readonly Value[], fallback: Value): Setting<Value> {
  return declare<Value>(Type.Enum([...values]), (value) => value, { fallback });
}

/** Comma-separated; each item is trimmed and checked. */
export function list(item: TSchema, options: Common<readonly string[]> = {}): Setting<readonly string[]> {
  return declare(
    Type.Array(item),
    (value) =>
      value
        .split(",")
        .map((part) => part.trim())
        .filter((part) => part !== ""),
    options,
  );
}

/** As {@link list}, with at least one item. */
export function nonEmptyList(
  item: TSchema,
  options: Common<readonly [string, ...string[]]> = {},
): Setting<readonly [string, ...string[]]> {
  const items = list(item) as Setting<unknown>;
  return {
    ...declare<readonly [string, ...string[]]>(items.schema, items.parse, options),
    schema: Type.Array(item, { minItems: 1 }),
  };
}

interface UrlForm {
  protocols: readonly string[];
  /** Beside scheme, host and port. */
  allows?: readonly ("path" | "query")[];
}

export function url(options: Common<string> & UrlForm): Setting<string> {
  return declare(Type.String({ title: "URL" }), (value) => checkedUrl(value, options), options);
}

export function urls(options: Common<readonly string[]> & UrlForm): Setting<readonly string[]> {
  const items = list(Type.String({ title: "URL" }), options);
  return { ...items, parse: (value) => (items.parse(value) as string[]).map((item) => checkedUrl(item, options)) };
}

export function json<Value>(schema: TSchema, options: Common<Value> = {}): Setting<Value> {
  return declare(
    schema,
    (value) => {
      try {
        return JSON.parse(value) as unknown;
      } catch {
        // The parser's own message would quote the text, which may be a secret.
        throw new Error("must be JSON");
      }
    },
    options,
  );
}

/** The URL parser drops line breaks, and those who use an address drop the parts they have no use for: neither is said to anybody. */
function checkedUrl(value: string, { protocols, allows = [] }: UrlForm): string {
  const allowed = protocols.map((protocol) => `${protocol}//`).join(" or ");
  if (/\s/.test(value) || !URL.canParse(value) || !protocols.includes(new URL(value).protocol)) {
    throw new Error(`must be a URL that starts with ${allowed}, without spaces and line breaks`);
  }
  const { username, password, pathname, search, hash } = new URL(value);
  const excess = [
    ...(username || password ? ["user and password"] : []),
    ...(!["", "/"].includes(pathname) && !allows.includes("path") ? ["path"] : []),
    ...(search && !allows.includes("query") ? ["query"] : []),
    ...(hash ? ["fragment"] : []),
  ];
  if (excess.length > 0) throw new Error(`must have no ${excess.join(", ")}`);
  return value;
}

function oneLine(value: string): string {
  if (/\p{Cc}/u.test(value)) throw new Error("must have no control characters, such as a line break at its end");
  return value;
}

/** Every finding of a check that failed; the message lists them, one a line, and after them what may be a typing error. */
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
 * @param refine further findings that concern several settings together; a value that is not valid is its text then.
 * @param unknown variables that are no settings, as `unknownSettings` describes them: an error names them too.
 * @throws SettingsError with every finding; values of secret settings are never part of it.
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
    // What is not valid counts as given for the findings that concern several settings.
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
  // What holds an @ may be a URL with a password that could not be told apart, and a query may hold a key.
  return setting.secret || /[@?]/.test(given) ? "" : `, not ${JSON.stringify(given)}`;
}

/** A service called `gateway` sets GATEWAY_PORT in every pod of its namespace. */
function kubernetesHint(name: string, given: string): string {
  if (!isServiceLinkPort(name, given)) return "";
  const service = name.slice(0, -"_PORT".length).toLowerCase().replaceAll("_", "-");
  return ` (Kubernetes sets it for the service "${service}": set enableServiceLinks: false in the pod's spec, or set ${name} there)`;
}

/** For the log: secrets become `***`, credentials and queries within URLs too. */
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

/** For the entry of a program: a settings error is printed for the operator and ends the process with code 78 (EX_CONFIG). */
export function orExit<Value>(read: () => Value): Value {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof SettingsError)) throw error;
    process.stderr.write(`${error.message}\n`);
    return process.exit(78);
  }
}

/** As {@link orExit}, for what takes time to find out. */
export async function orExitLater(check: Promise<void>): Promise<void> {
  try {
    await check;
  } catch (error) {
    orExit(() => {
      throw error as Error;
    });
  }
}
