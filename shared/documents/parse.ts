/** The one place that knows the YAML library. */
import { parseDocument } from "yaml";
import { InvalidDocument } from "./invalid-document.ts";
import type { DocumentName } from "./store.ts";

/** YAML or JSON (which is YAML) to a value. @throws InvalidDocument with every syntax error, line and column. */
export function parseDocumentText(name: DocumentName, text: string): unknown {
  const document = parseDocument(text, { prettyErrors: true, uniqueKeys: true });
  if (document.errors.length > 0) {
    throw new InvalidDocument(
      name,
      document.errors.map((error) => error.message.trim()),
    );
  }
  try {
    return document.toJS({ maxAliasCount: 100 }) as unknown;
  } catch (error) {
    throw new InvalidDocument(name, [(error as Error).message]);
  }
}
