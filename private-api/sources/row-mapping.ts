/** What a row is published as. Pure. */
import { compactJson, type JsonText } from "../../shared/json/json-text.ts";
import { isTooDeep, parseJson } from "../../shared/json/json.ts";
import { isApplicationEvent, isChannel } from "../../shared/protocol/grammar.ts";
import { maxPayloadBytes } from "../../shared/protocol/limits.ts";
import { templatePieces } from "../../shared/rules/sources.ts";
import { excerpt } from "../../shared/runtime/excerpt.ts";
import { maxTextLength, type Row } from "./contract.ts";

/** The members of the rule that decide what a row becomes. */
export interface MappingRule {
  readonly channel: string;
  readonly event: string;
  readonly data: string;
}

export type Mapped =
  | { readonly kind: "publication"; readonly channel: string; readonly event: string; readonly data: JsonText }
  /** Says why, without the row's data. */
  | { readonly kind: "skipped"; readonly reason: string };

/** Without the other members of a rule. */
export function mappingOf({ channel, event, data }: MappingRule): MappingRule {
  return { channel, event, data };
}

/** The columns that the rule needs, each once. */
export function mappedColumns({ channel, event, data }: MappingRule): readonly string[] {
  const pieces = [...templatePieces(channel), ...templatePieces(event)];
  return [...new Set([...pieces.flatMap((piece) => ("placeholder" in piece ? [piece.placeholder] : [])), data])];
}

export function mapRow(rule: MappingRule, { values }: Row): Mapped {
  const channel = filled(rule.channel, values);
  if (channel === undefined || !isChannel(channel)) return skipped("channel", channel);
  const event = filled(rule.event, values);
  if (event === undefined || !isApplicationEvent(event)) return skipped("event", event);
  const data = rowData(rule, { values });
  return "reason" in data ? data : { kind: "publication", channel, event, data };
}

/** What is published of the row, or why nothing is. */
function rowData(
  { data: column }: Pick<MappingRule, "data">,
  { values }: Pick<Row, "values">,
): JsonText | Extract<Mapped, { kind: "skipped" }> {
  const text = values[column] ?? undefined;
  if (text === undefined) return { kind: "skipped", reason: `data: ${column} is NULL` };
  const tooLarge = {
    kind: "skipped",
    reason: `data: ${column} is larger than ${maxPayloadBytes} bytes of JSON`,
  } as const;
  if (text.length >= maxTextLength) return tooLarge;
  const parsed = parseJson(text);
  if (parsed === undefined) return { kind: "skipped", reason: `data: ${column} is not JSON` };
  if (isTooDeep(parsed)) return { kind: "skipped", reason: `data: ${column} is nested too deep` };
  const data = compactJson(Buffer.from(text), maxPayloadBytes);
  return data.bytes > maxPayloadBytes ? tooLarge : data;
}

/** Undefined where a value is NULL. */
function filled(template: string, values: Row["values"]): string | undefined {
  const texts = templatePieces(template).map((piece) => ("text" in piece ? piece.text : values[piece.placeholder]));
  return texts.some((text) => text === null || text === undefined) ? undefined : texts.join("");
}

function skipped(member: "channel" | "event", text: string | undefined): Mapped {
  const reason = text === undefined ? `${member}: a column is NULL` : `${member}: "${excerpt(text)}" is not allowed`;
  return { kind: "skipped", reason };
}
