/** Which pages may connect, by the `Origin` that their browser sends. Pure. */

/** `*` matches one or more labels in front of a domain. */
const subdomains = "*.";
/** What browsers send for pages without an origin: files, sandboxed frames. */
const noOrigin = "null";
const any = "*";

export type OriginPolicy = {
  /** Every page may connect. */
  readonly any: boolean;
  /**
   * @param origin header of the request; undefined: the client is no browser.
   * @param host header of the request: a page of the same host may connect.
   */
  allows(origin: string | undefined, host: string | undefined): boolean;
};

/** @throws where an entry could never match, with what to change. */
export function originPolicy(entries: readonly string[]): OriginPolicy {
  const allowsAny = entries.includes(any);
  const listed = entries.filter((entry) => entry !== any).map(normalised);
  const exact = new Set(listed.filter((entry) => !entry.includes(subdomains)));
  const patterns = listed.flatMap((entry) => {
    const [scheme, domain] = entry.split(subdomains);
    return domain === undefined ? [] : [{ scheme: scheme ?? "", domain: `.${domain}` }];
  });
  return {
    any: allowsAny,
    allows: (given, host) => {
      if (given === undefined || allowsAny) return true;
      const origin = given.toLowerCase();
      if (exact.has(origin)) return true;
      if (host !== undefined && origin.endsWith(`://${host.toLowerCase()}`)) return true;
      return patterns.some(({ scheme, domain }) => origin.startsWith(scheme) && origin.endsWith(domain));
    },
  };
}

/** As browsers write an origin: in lower case, without the default port of the scheme. */
function normalised(entry: string): string {
  const text = entry.toLowerCase();
  if (text === noOrigin) return text;
  const [, scheme = "", wildcard = "", rest = ""] = /^([a-z][a-z0-9+.-]*):\/\/(\*\.)?(.*)$/.exec(text) ?? [];
  if (scheme === "") throw new Error(`"${entry}" is not an origin such as https://app.example, "*" or "null"`);
  if (scheme === "file") throw new Error(`"${entry}": browsers send "null" for pages of files, list "null"`);
  const url = URL.parse(`${scheme}://${rest}`);
  if (!url || url.host === "" || /[/?#@*]/.test(rest)) {
    throw new Error(
      `"${entry}" must be scheme, host and port only, such as https://app.example or https://*.app.example`,
    );
  }
  return `${scheme}://${wildcard}${url.host}`;
}
