/** Secrets within texts that are shown: in logs, and in findings. Pure. */

/** `scheme://user:password@`, up to the last @: a password may hold any character. */
const credentials = /(\w+:\/\/)\S*@/g;
/** Of a URL; it may hold a key. */
const query = /(\w+:\/\/[^\s?"']*\?)[^\s"']+/g;
const serviceSecret = /\bwhsec_[\w+/=-]+/g;

/** With `***` in place of credentials and queries of URLs, and of service secrets. For texts of bounded length. */
export function withoutSecrets(text: string): string {
  return text.replaceAll(credentials, "$1***@").replaceAll(query, "$1***").replaceAll(serviceSecret, "whsec_***");
}
