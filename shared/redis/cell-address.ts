/** One entry of REDIS_CELLS: where the Redis of a cell is. */
import { parseClusterNodes, parseNamedPrimary, parseSentinels, parseServerUrl, type ServerAddress } from "./address.ts";

export type CellAddress =
  | { readonly kind: "standalone"; readonly url: string }
  | { readonly kind: "sentinel"; readonly sentinels: readonly string[]; readonly master: string }
  | { readonly kind: "cluster"; readonly nodes: readonly string[] };

export interface ParsedCell {
  readonly address: CellAddress;
  readonly database: number;
  /** The same for two entries that name one Redis. */
  readonly server: string;
}

/**
 * `redis[s]://[user:password@]host[:port][/database]`, or `redis[s]+sentinel://[user:password@]host:port;host:port…/name[/database]`:
 * user and password are those of the data; sentinels have none. Or `redis[s]+cluster://[user:password@]host:port;host:port…`.
 * @throws Error that says what to change and never quotes the text, which may contain a password.
 */
export function parseCellAddress(text: string): ParsedCell {
  if (/^rediss?\+cluster:/i.test(text)) return parseCluster(text);
  if (/^rediss?\+/i.test(text)) return parseSentinel(text);
  const { host, port, database } = parseServerUrl(text);
  return { address: { kind: "standalone", url: text }, database, server: `${host}:${port}` };
}

function parseSentinel(text: string): ParsedCell {
  const [, scheme = "", login = "", hosts = "", name = "", path = ""] =
    /^(rediss?)\+sentinel:\/\/([^@/]*@)?([^@/]+)\/([^/]+)(\/.*)?$/i.exec(text) ?? [];
  if (name === "") {
    throw new Error(
      "must be redis[s]://…, redis[s]+sentinel://user:password@host:port;host:port/name/database or redis[s]+cluster://user:password@host:port;host:port",
    );
  }
  const secure = scheme.toLowerCase() === "rediss";
  const sentinels = hosts.split(";").map((host) => (secure ? `rediss://${host}` : host));
  const master = `${scheme}://${login}${name}${path}`;
  const { database } = parseNamedPrimary(master);
  return {
    address: { kind: "sentinel", sentinels, master },
    database,
    server: `${serversOf(parseSentinels(sentinels))}/${name}`,
  };
}

function parseCluster(text: string): ParsedCell {
  const [, scheme = "", login = "", hosts = ""] = /^(rediss?)\+cluster:\/\/([^@/]*@)?([^@/]+)\/?$/i.exec(text) ?? [];
  if (hosts === "") throw new Error("must be redis[s]+cluster://user:password@host:port;host:port, without a database");
  const nodes = hosts.split(";").map((host) => `${scheme}://${login}${host}`);
  return { address: { kind: "cluster", nodes }, database: 0, server: serversOf(parseClusterNodes(nodes)) };
}

function serversOf(addresses: readonly ServerAddress[]): string {
  return addresses
    .map(({ host, port }) => `${host}:${port}`)
    .sort()
    .join(";");
}
