/** One entry of REDIS_CELLS: where the Redis of a cell is. */
import { parseNamedPrimary, parseSentinels, parseServerUrl } from "./address.ts";

export type CellAddress =
  | { readonly kind: "standalone"; readonly url: string }
  | { readonly kind: "sentinel"; readonly sentinels: readonly string[]; readonly master: string };

export interface ParsedCell {
  readonly address: CellAddress;
  readonly database: number;
  /** The same for two entries that name one Redis. */
  readonly server: string;
}

/**
 * `redis[s]://[user:password@]host[:port][/database]`, or `redis[s]+sentinel://[user:password@]host:port;host:port…/name[/database]`:
 * user and password are those of the data; sentinels have none.
 * @throws Error that says what to change and never quotes the text, which may contain a password.
 */
export function parseCellAddress(text: string): ParsedCell {
  if (!/^rediss?\+/i.test(text)) {
    const { host, port, database } = parseServerUrl(text);
    return { address: { kind: "standalone", url: text }, database, server: `${host}:${port}` };
  }
  const [, scheme = "", login = "", hosts = "", name = "", path = ""] =
    /^(rediss?)\+sentinel:\/\/([^@/]*@)?([^@/]+)\/([^/]+)(\/.*)?$/i.exec(text) ?? [];
  if (name === "") {
    throw new Error("must be redis[s]://…, or redis[s]+sentinel://user:password@host:port;host:port/name/database");
  }
  const secure = scheme.toLowerCase() === "rediss";
  const sentinels = hosts.split(";").map((host) => (secure ? `rediss://${host}` : host));
  const known = parseSentinels(sentinels);
  const master = `${scheme}://${login}${name}${path}`;
  const { database } = parseNamedPrimary(master);
  const servers = known.map(({ host, port }) => `${host}:${port}`).sort();
  return { address: { kind: "sentinel", sentinels, master }, database, server: `${servers.join(";")}/${name}` };
}
