/** Each server remembers which cell it is, so that settings with exchanged or missing cells do not scatter the data. */
import { parseCellMap } from "../redis/cell-map.ts";
import type { Cells } from "../redis/cells.ts";
import { TidegateError } from "../runtime/errors.ts";
import { SettingsError } from "../runtime/settings.ts";
import type { DocumentStore } from "../documents/contract.ts";
import { cellNameKey } from "./keys.ts";

/**
 * Checks the servers that can be reached against the settings, and names those that have no name yet.
 * @throws SettingsError
 */
export async function checkCellNames(cells: Cells, store: DocumentStore): Promise<void> {
  const findings = cells.isRouted ? await claimNames(cells) : await alone(cells, store).catch(ignoreAway);
  if (findings.length > 0) throw new SettingsError(findings);
}

async function claimNames({ all, fleet }: Cells): Promise<string[]> {
  const [first] = all.keys();
  const key = cellNameKey(fleet.root);
  const checks = [...all].map(async ([name, cell]) => {
    const wanted = `${name} ${first}`;
    await cell.run("set", key, wanted, "NX");
    const stored = (await cell.run<string | null>("get", key)) ?? wanted;
    if (stored === wanted) return [];
    const [known, itsFirst] = stored.split(" ");
    return [
      `REDIS_CELLS: the server of ${name} is cell ${known} of a deployment whose first cell is ${itsFirst}: correct names and order, or delete its key ${key} where it is to be another cell`,
    ];
  });
  return (await Promise.all(checks.map(async (check) => check.catch(ignoreAway)))).flat();
}

/** One server, which may have been one of several cells. */
async function alone({ fleet }: Cells, store: DocumentStore): Promise<string[]> {
  const stored = await fleet.run<string | null>("get", cellNameKey(fleet.root));
  if (stored === null) return [];
  const [name, first] = stored.split(" ");
  if (name !== first)
    return [`REDIS_CELLS: this server is cell ${name}, and ${first} is the first one: set REDIS_CELLS`];
  const document = await store.read();
  const owners = new Set(document && parseCellMap(document.version, document.document).owners);
  owners.delete(name ?? "");
  if (owners.size === 0) return [];
  return [`REDIS_CELLS: the cells ${[...owners].join(", ")} own slots: set REDIS_CELLS, or drain them first`];
}

function ignoreAway(error: unknown): string[] {
  if (error instanceof TidegateError) return [];
  throw error;
}
