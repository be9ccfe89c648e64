/** Where the programs of the databases are. */
import { existsSync, readdirSync } from "node:fs";

/** Debian keeps them off the PATH: the folder of the newest version. */
const debianFolder = "/usr/lib/postgresql";

/** Undefined where PostgreSQL is not installed. */
export function postgresFolder(): string | undefined {
  if (!existsSync(debianFolder)) return undefined;
  const versions = readdirSync(debianFolder).filter((name) => existsSync(`${debianFolder}/${name}/bin/postgres`));
  const [newest] = versions.toSorted((one, other) => Number(other) - Number(one));
  return newest === undefined ? undefined : `${debianFolder}/${newest}/bin`;
}
