/** Masks secrets in logs and findings. Pure. */

/** `scheme://user:password@`, up to the last @: a password may contain one. */
const credentials = /(\w+:\/\/)\S*@/g;
/** Query of a URL, which may contain a key. */
const query = /(\w+:\/\/[^\s?"']*\?)[^\s"']+/g;
const serviceSecret = /\bwhsec_[\w+/=-]+/g;

/** Replaces credentials and queries of URLs and service secrets by `***`. @param text of bounded length. */
export function withoutSecrets(text: string): string {
  return text.replaceAll(credentials, "$1***@").replaceAll(query, "$1***").replaceAll(serviceSecret, "whsec_***");
}
