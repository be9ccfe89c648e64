import type { FastifyInstance } from "fastify";
import { type Static, Type } from "typebox";
import { reasonOf } from "../../shared/runtime/reason-of.ts";
import { readReport } from "../leases/read-report.ts";
import { parseProgress } from "../sources/progress.ts";
import { parseShardStatus } from "../sources/shard-status.ts";
import { type Shard, shardsOf } from "../sources/shards.ts";
import type { PrivateApiContext } from "../node/context.ts";

const count = Type.Integer({ minimum: 0 });
const ShardAnswer = Type.Object({
  shard: Type.String({ description: "The variable that holds the URL" }),
  state: Type.Enum(["live", "failing", "refused", "unread"], {
    description: "refused: something must be changed, see lastError; unread: no private API reads it",
  }),
  lag: Type.Object({ ms: Type.Integer({ minimum: 0, description: "0 while no row waits to be published" }) }),
  published: Type.Integer({ minimum: 0, description: "Rows since the first read" }),
  skipped: Type.Integer({ minimum: 0, description: "Rows without a valid channel, event or data" }),
  lastError: Type.Optional(Type.Object({ at: count, message: Type.String() })),
});
const Answer = Type.Object({
  sources: Type.Array(
    Type.Object({
      name: Type.String(),
      driver: Type.String(),
      table: Type.String(),
      shards: Type.Array(ShardAnswer),
    }),
  ),
});

interface Context {
  currentRules: Pick<PrivateApiContext["currentRules"], "rules">;
  sqlShards: Pick<PrivateApiContext["sqlShards"], "read">;
}

/** `GET /v1/sql-sources` → the sources of the rules, with the state of each shard. */
export function addListSqlSources(app: FastifyInstance, context: Context): void {
  app.get(
    "/v1/sql-sources",
    {
      config: { access: "read" },
      schema: { summary: "How far SQL sources are read", tags: ["sql-sources"], response: { 200: Answer } },
    },
    async () => answer(context),
  );
}

async function answer({ currentRules, sqlShards }: Context): Promise<Static<typeof Answer>> {
  const { rules } = currentRules;
  const shards = await Promise.all(
    [...shardsOf(rules).values()].map(async (shard) => ({
      source: shard.source,
      answer: await shardAnswer(shard, sqlShards),
    })),
  );
  const bySource = Map.groupBy(shards, ({ source }) => source);
  const sources = [...rules.sqlSources].map(([name, { driver, table }]) => ({
    ...{ name, driver, table },
    shards: (bySource.get(name) ?? []).map((shard) => shard.answer),
  }));
  return { sources };
}

async function shardAnswer(
  { name, variable }: Shard,
  store: Context["sqlShards"],
): Promise<Static<typeof ShardAnswer>> {
  const { progress, ...report } = await readReport(name, { store, parse: parseShardStatus });
  return { shard: variable, ...report, ...countsOf(progress) };
}

/** Progress that a newer version wrote is an error of its shard alone. */
function countsOf(stored: string | undefined): Pick<Static<typeof ShardAnswer>, "published" | "skipped" | "lastError"> {
  if (stored === undefined) return { published: 0, skipped: 0 };
  try {
    const { published, skipped } = parseProgress(stored);
    return { published, skipped };
  } catch (error) {
    return { published: 0, skipped: 0, lastError: { at: Date.now(), message: reasonOf(error) } };
  }
}
