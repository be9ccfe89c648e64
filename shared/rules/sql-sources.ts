/** SQL sources in the rules document: their schema and further checks. Pure. */
import { type Static, Type } from "typebox";
import { isApplicationEvent, isChannel } from "../protocol/grammar.ts";
import { templatePieces } from "./sources.ts";

const closed = { additionalProperties: false } as const;
/** Shards of all sources together: each has a connection of its own. */
export const maxShards = 2_000;
const identifier = "[A-Za-z_][A-Za-z0-9_]{0,62}";
const Column = Type.String({ pattern: `^${identifier}$` });
const columnPattern = new RegExp(`^${identifier}$`);
const variablePattern = /^env:[A-Za-z_][A-Za-z0-9_]*$/;
const Template = Type.String({ minLength: 1, maxLength: 256 });

export const SqlSource = Type.Object(
  {
    driver: Type.Enum(["postgres", "mysql"]),
    /**
     * One database, or a list of shards, each as `env:NAME`: the private API reads the variable from its own environment. A URL, with its
     * password, is never in the document. Checked by {@link sqlSourceFindings}, which does not quote it.
     */
    url: Type.Unsafe<string | string[]>({}),
    /** `table`, or `schema.table`. */
    table: Type.String({ pattern: `^${identifier}(\\.${identifier})?$` }),
    /** A column of growing whole numbers: serial, identity or auto_increment. */
    id: Type.Optional(Column),
    /** Templates: `{column}` stands for the row's value. */
    channel: Template,
    event: Template,
    /** The column with the JSON that is published. */
    data: Column,
    /** `beginning`: what the table has already is published, too. */
    start: Type.Optional(Type.Enum(["end", "beginning"])),
    /** PostgreSQL: the column with the transaction that wrote the row. */
    xid: Type.Optional(Column),
    /** PostgreSQL: reads a table without such a column. Rows that were written inside a savepoint are lost. */
    withoutXid: Type.Optional(Type.Literal("accept")),
    /** PostgreSQL: the channel of NOTIFY that says that rows were written. */
    notify: Type.Optional(Column),
    /** Whether to read on after a failover or a restore, which may have lost transactions. */
    failover: Type.Optional(Type.Enum(["refuse", "continue"])),
  },
  closed,
);
export type SqlSourceRule = Static<typeof SqlSource>;

const postgresMembers = ["xid", "withoutXid", "notify"] as const;

/** The variables with the URLs of the shards. */
export function shardVariables({ url }: Pick<SqlSourceRule, "url">): readonly string[] {
  return [url].flat().map((text) => text.slice("env:".length));
}

/** What the schema cannot say. Does not quote URLs: they contain passwords. */
export function sqlSourceFindings(name: string, source: SqlSourceRule): string[] {
  const path = `sqlSources.${name}`;
  const findings = urlFindings(path, source.url);
  findings.push(
    ...templateFindings(`${path}.channel`, source.channel, isChannel, 'a channel, e.g. "account:{account_id}"'),
    ...templateFindings(`${path}.event`, source.event, isApplicationEvent, 'an event, e.g. "{object_type}.{action}"'),
  );
  if (source.driver !== "postgres") {
    for (const member of postgresMembers) {
      if (source[member] !== undefined) findings.push(`${path}.${member}: only with driver: postgres`);
    }
  }
  if (source.xid !== undefined && source.withoutXid !== undefined) {
    findings.push(`${path}.withoutXid: not with xid, which names the column`);
  }
  return findings;
}

function urlFindings(path: string, url: unknown): string[] {
  const urls: unknown[] = [url].flat();
  if (urls.length === 0) return [`${path}.url: names no shard`];
  const isVariable = (text: unknown): text is string => typeof text === "string" && variablePattern.test(text);
  if (!urls.every(isVariable)) {
    const form = "must name a variable of the private API's environment, e.g. env:CRM_URL, or be a list of such names";
    return [`${path}.url: ${form}`];
  }
  return new Set(urls).size < urls.length ? [`${path}.url: names a variable twice`] : [];
}

/** @param isValid of the text with every placeholder replaced by a value. */
function templateFindings(path: string, template: string, isValid: (text: string) => boolean, form: string): string[] {
  const pieces = templatePieces(template);
  const columns = pieces.flatMap((piece) => ("placeholder" in piece ? [piece.placeholder] : []));
  const wrong = columns.find((column) => !columnPattern.test(column));
  if (wrong !== undefined) return [`${path}: {${wrong}} is no name of a column`];
  const sample = pieces.map((piece) => ("placeholder" in piece ? "x" : piece.text)).join("");
  return isValid(sample) ? [] : [`${path}: can never be ${form}`];
}
