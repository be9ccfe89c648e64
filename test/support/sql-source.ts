/** What a SQL source has published, and its state, over the private API. */
import { changesOf, pullAll } from "./change-puller.ts";
import { eventually } from "./eventually.ts";
import { tokens } from "./fleet.ts";
import { spawnProcess } from "./processes.ts";
import { accounts, inversions, type SqlSession, type Workload } from "./sql-workload.ts";

export interface ShardState {
  shard: string;
  state: string;
  lag: { ms: number };
  published: number;
  skipped: number;
  lastError?: { at: number; message: string };
}

/** Until every row that was committed before now is published, as the source counts. */
export async function allIsPublished(apiUrl: string, shard: string, session: SqlSession): Promise<void> {
  const { length } = await committedIn(session);
  await eventually(async () => ((await shardStates(apiUrl)).get(shard)?.published ?? 0) >= length);
}

/** Once all that was committed before now is published: the n of the rows in the channels of the accounts, and in the table, ascending. */
export async function publishedAndCommitted(
  apiUrl: string,
  shard: string,
  session: SqlSession,
): Promise<{ published: number[]; committed: number[] }> {
  await allIsPublished(apiUrl, shard, session);
  const published = await publishedInAll(apiUrl, "account");
  return { published: ascending(published), committed: ascending(await committedIn(session)) };
}

/** Of all accounts, see {@link inversions}. */
export async function publishedInversions(apiUrl: string, { written }: Workload): Promise<[number, number][]> {
  const found: [number, number][] = [];
  for (let account = 1; account <= accounts; account++) {
    found.push(...inversions(await publishedIn(apiUrl, `account:${account}`), written));
  }
  return found;
}

/** By the n of their data, in order. */
export async function publishedIn(apiUrl: string, channel: string): Promise<number[]> {
  const { changes } = await pullAll([apiUrl], { channels: channel });
  return changesOf(changes, channel).map(({ data }) => (data as { n: number }).n);
}

/** Of all channels of a namespace; without an order. */
export async function publishedInAll(apiUrl: string, namespace: string): Promise<number[]> {
  const { changes } = await pullAll([apiUrl], { channels: `${namespace}:*` });
  return changes.flatMap((item) => ("gap" in item ? [] : [(item.data as { n: number }).n]));
}

export async function committedIn(session: SqlSession): Promise<number[]> {
  const rows = await session.query("SELECT object_id FROM transactions ORDER BY id");
  return rows.map((row) => Number(row["object_id"]));
}

/** Of the shards of all sources, by `source/VARIABLE`; none while Redis does not answer in time. */
export async function shardStates(apiUrl: string): Promise<ReadonlyMap<string, ShardState>> {
  const answer = await fetch(`${apiUrl}/v1/sql-sources`, { headers: { authorization: `Bearer ${tokens.reader}` } });
  if (answer.status === 503) return new Map();
  if (answer.status !== 200) throw new Error(await answer.text());
  const { sources } = (await answer.json()) as { sources: { name: string; shards: ShardState[] }[] };
  return new Map(sources.flatMap(({ name, shards }) => shards.map((shard) => [`${name}/${shard.shard}`, shard])));
}

export function ascending(numbers: readonly number[]): number[] {
  return numbers.toSorted((one, other) => one - other);
}

export interface ContactsCheck {
  exitCode: number | null;
  bypassed: string[];
  missingTriggers: string[];
  continueAfter?: string;
}

/** Runs the check for writes of the table `contacts` that bypassed the log. */
export async function checkContacts(url: string, more: readonly string[] = []): Promise<ContactsCheck> {
  const { exitCode, output } = await runCheck(url, ["--table", "contacts", "--json", ...more]);
  try {
    return { exitCode, ...(JSON.parse(output) as Omit<ContactsCheck, "exitCode">) };
  } catch {
    throw new Error(output);
  }
}

/** Of the object type `contact`. */
export async function runCheck(
  url: string,
  args: readonly string[],
): Promise<{ exitCode: number | null; output: string }> {
  const check = spawnProcess(process.execPath, ["deploy/sql-source.ts", "check", "--type", "contact", ...args], {
    env: { SQL_SOURCE_URL: url },
  });
  const exitCode = await check.exited;
  return { exitCode, output: check.output() };
}
