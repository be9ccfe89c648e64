/** Parses addresses and logins of Redis servers from settings. */

export interface ServerAddress {
  readonly host: string;
  readonly port: number;
  readonly tls: boolean;
  readonly username?: string;
  readonly password?: string;
  readonly database: number;
}

/** A primary that sentinels know by a name: the host of the URL. */
export type NamedPrimary = Omit<ServerAddress, "host" | "port"> & { readonly name: string };

const defaultPort = 6_379;
const defaultSentinelPort = 26_379;
const maxPort = 65_535;
/** Redis numbers its databases with a C int. */
const maxDatabase = 2_147_483_647;

/**
 * `redis[s]://[[user]:password@]host[:port][/database]`
 * @throws Error that says what to change and never quotes the text, which may contain a password.
 */
export function parseServerUrl(text: string): ServerAddress {
  const { port = defaultPort, ...address } = parseUrl(text);
  return { ...address, port };
}

/**
 * `name` or `redis[s]://[[user]:password@]name[/database]`.
 * @throws as {@link parseServerUrl}.
 */
export function parseNamedPrimary(text: string): NamedPrimary {
  if (!isUrl(text)) {
    if (!/^[\w.-]+$/.test(text)) throw new Error("must be a name, or a URL whose host is the name");
    return { name: text, tls: false, database: 0 };
  }
  const { host: name, port, ...login } = parseUrl(text);
  if (port !== undefined) throw new Error("must have no port: the sentinels provide it");
  return { ...login, name };
}

/**
 * Each entry is `host:port`, `[IPv6]:port` or a URL as for {@link parseServerUrl}. The first URL sets TLS, user and password of
 * the entries that are not URLs.
 * @throws as {@link parseServerUrl}.
 */
function parseServerList(entries: readonly string[], portOfUrls: number): readonly ServerAddress[] {
  if (entries.length === 0) throw new Error("must name at least one server");
  const firstUrl = entries.findIndex(isUrl);
  const parsed = entries.map((entry, index) => {
    try {
      return isUrl(entry) ? parseListedUrl(entry, portOfUrls) : parseHostAndPort(entry);
    } catch (error) {
      throw new Error(`entry ${index + 1}: ${(error as Error).message}`, { cause: error });
    }
  });
  return parsed.map((address, index) =>
    isUrl(entries[index] ?? "") ? address : { ...address, ...parsed[firstUrl], host: address.host, port: address.port },
  );
}

/** @throws as {@link parseServerUrl}. */
export function parseSentinels(entries: readonly string[]): readonly ServerAddress[] {
  return parseServerList(entries, defaultSentinelPort);
}

/** All servers of a cluster, also those discovered later, share TLS, user and password. @throws as {@link parseServerUrl}. */
export function parseClusterNodes(entries: readonly string[]): readonly ServerAddress[] {
  const addresses = parseServerList(entries, defaultPort);
  const logins = new Set(addresses.map(({ tls, username, password }) => JSON.stringify([tls, username, password])));
  if (logins.size > 1) throw new Error("all entries must have the same scheme, user and password");
  return addresses;
}

/** The form used in `MOVED` replies and by the Redis client. */
export function addressText({ host, port }: Pick<ServerAddress, "host" | "port">): string {
  return `${host}:${port}`;
}

function isUrl(text: string): boolean {
  return text.includes("://");
}

function parseListedUrl(text: string, fallbackPort: number): ServerAddress {
  const { port = fallbackPort, ...address } = parseUrl(text);
  if (address.database !== 0) throw new Error("must name no database");
  return { ...address, port };
}

function parseHostAndPort(text: string): ServerAddress {
  const [, ipv6, name, digits] = /^(?:\[([0-9A-Fa-f:.]+)\]|([^\s:@/[\]]+)):(\d{1,5})$/.exec(text) ?? [];
  const host = ipv6 ?? name;
  const port = Number(digits);
  if (host === undefined || !(port >= 1 && port <= maxPort)) {
    throw new Error("must be host:port, [IPv6]:port or redis[s]://user:password@host:port");
  }
  return { host, port, tls: false, database: 0 };
}

function parseUrl(text: string): Omit<ServerAddress, "port"> & { port?: number } {
  if (/\s/.test(text) || !URL.canParse(text) || !/^rediss?:\/\//i.test(text)) {
    throw new Error(
      "must be a URL that starts with redis:// or rediss://, without spaces and line breaks; special characters in user and password are written as %XX",
    );
  }
  const { protocol, hostname, port, username, password, pathname, search, hash } = new URL(text);
  const host = hostname.replaceAll(/^\[|\]$/g, "");
  if (host === "") throw new Error("must name a host");
  if (search !== "") throw new Error("must have no query: what follows the ? has no effect");
  if (hash !== "") throw new Error("must have no fragment: a # in a password is written as %23");
  if (username !== "" && password === "") throw new Error("must have a password where it has a user");
  if (port === "0") throw new Error("must have a port from 1 to 65535, or none");
  return {
    host: decoded(host, "host"),
    tls: protocol === "rediss:",
    database: databaseOf(pathname),
    ...(port !== "" && { port: Number(port) }),
    ...(username !== "" && { username: decoded(username, "user") }),
    ...(password !== "" && { password: decoded(password, "password") }),
  };
}

function databaseOf(pathname: string): number {
  if (pathname === "" || pathname === "/") return 0;
  const database = Number(/^\/(\d+)$/.exec(pathname)?.[1]);
  if (!(database <= maxDatabase)) throw new Error("must end in the number of a database, such as /0, or have no path");
  return database;
}

function decoded(text: string, part: string): string {
  try {
    return decodeURIComponent(text);
  } catch (error) {
    throw new Error(`the ${part} has a % without two hex digits: write %25 for it`, { cause: error });
  }
}
