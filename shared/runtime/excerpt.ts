/** Quotes untrusted text in errors and logs. Pure. */

/** Enough to recognise a name. */
const maxQuotedLength = 100;

// Control characters and line separators.
// oxlint-disable-next-line no-control-regex
const unprintable = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g;

/** @returns one line of bounded length. @param maxLength in characters, before line ends are escaped. */
export function excerpt(text: string, maxLength = maxQuotedLength): string {
  const beginning = text.length > maxLength ? text.slice(0, maxLength) : text;
  const line = beginning.toWellFormed().replaceAll(unprintable, (character) => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
  });
  return beginning === text ? line : `${line}… (${text.length} characters)`;
}
