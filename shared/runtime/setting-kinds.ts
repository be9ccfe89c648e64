/** The kinds of settings: how the text of a variable becomes a value. */
import { type TSchema, Type } from "typebox";
import type { Setting } from "./settings.ts";

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

/** One line of text. A secret is taken byte for byte, control characters included. */
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

export const headerTokenFinding = "must be visible ASCII without spaces or a line break at its end";

/** Fits into a header `authorization: Bearer <token>`. */
export function isHeaderToken(value: string): boolean {
  return /^[\x21-\x7e]+$/.test(value);
}

/** @param finding says what to change where the text does not match. */
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

/** As {@link list}. @param check throws for an item that is not valid, with what to change. */
export function checkedList(
  check: (item: string) => unknown,
  { title, ...options }: Common<readonly string[]> & { title?: string },
): Setting<readonly string[]> {
  const items = list(Type.String(title === undefined ? {} : { title }), options);
  const findingsOf = (item: string): string[] => {
    try {
      check(item);
      return [];
    } catch (error) {
      return [(error as Error).message];
    }
  };
  const parse = (value: string): unknown => {
    const given = items.parse(value) as string[];
    const findings = given.flatMap(findingsOf);
    if (findings.length > 0) throw new Error(findings.join("; "));
    return given;
  };
  return { ...items, parse };
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

/**
 * Comma-separated secrets. White space around a comma is none of theirs; everything else is taken byte for byte. Where every part
 * would be too short for a secret the text is one secret that contains a comma.
 */
export function secrets({ minLength }: { minLength: number }): Setting<readonly [string, ...string[]]> {
  const parse = (value: string): string[] => {
    const parts = value.split(/\s*,\s*/);
    return parts.every((part) => part.length < minLength) ? [value] : parts;
  };
  return declare(Type.Array(Type.String({ minLength }), { minItems: 1 }), parse, { secret: true });
}

interface UrlForm {
  protocols: readonly string[];
  /** Parts allowed in addition to scheme, host and port. */
  allows?: readonly ("path" | "query")[];
}

export function url(options: Common<string> & UrlForm): Setting<string> {
  return declare(Type.String({ title: "URL" }), (value) => checkedUrl(value, options), options);
}

export function urls(options: Common<readonly string[]> & UrlForm): Setting<readonly string[]> {
  return checkedList((item) => checkedUrl(item, options), { ...options, title: "URL" });
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

/** Strict, because the URL parser drops line breaks and users of an address drop parts they do not need, both silently. */
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
