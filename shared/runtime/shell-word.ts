/** Quotes untrusted text as one word of a command line of bash. Pure. */
import { excerpt } from "./excerpt.ts";

/** Without characters that a terminal obeys. */
export function shellWord(text: string): string {
  if (/^[\w.:@%+,/-]+$/.test(text)) return text;
  const escaped = excerpt(text.replaceAll(/[\\']/g, "\\$&"), Infinity);
  return `$'${escaped}'`;
}
