/** The one place that knows the YAML library. */
import { parseDocument } from "yaml";
import { RulesError } from "./document.ts";

/** YAML or JSON (which is YAML) to a value. @throws RulesError with every syntax error, line and column. */
export function parseRulesText(text: string): unknown {
  const document = parseDocument(text, { prettyErrors: true, uniqueKeys: true });
  if (document.errors.length > 0) throw new RulesError(document.errors.map((error) => error.message.trim()));
  try {
    return document.toJS({ maxAliasCount: 100 }) as unknown;
  } catch (error) {
    throw new RulesError([(error as Error).message]);
  }
}
