/** What the log says of a Redis that is away. */
import { expect, test } from "vitest";
import { connect } from "../../shared/redis/client.ts";
import { RedisServers } from "../../shared/redis/servers.ts";
import { createLogger } from "../../shared/runtime/logging.ts";
import { eventually } from "../support/eventually.ts";
import { startRedis } from "../support/redis.ts";

test("RED-12: an outage of Redis is one warning for each connection, then a count", async () => {
  const redis = await startRedis();
  const lines: Record<string, unknown>[] = [];
  const logger = createLogger({
    name: "test",
    level: "info",
    destination: { write: (line) => void lines.push(JSON.parse(line) as Record<string, unknown>) },
  });
  const client = new RedisServers({ target: { kind: "standalone", url: redis.url }, logger }).openClient();
  let failures = 0;
  client.on("error", () => failures++);
  await connect(client, 5_000);
  await redis.kill();
  await eventually(() => failures >= 3);
  await redis.restart();
  await eventually(() => client.status === "ready");
  expect(lines).toMatchObject([
    { msg: "redis connection failed, retrying", connection: "commands", reason: expect.stringContaining("ECONN") },
    { msg: "redis connection works again", connection: "commands", failures },
  ]);
  client.disconnect();
  await redis.stop();
});
