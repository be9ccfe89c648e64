/** Old failures of an endpoint that is made to send again. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { RedisAttemptLog } from "../../shared/endpoints/redis-attempts.ts";
import { Cells } from "../../shared/redis/cells.ts";
import { connectedRedis } from "../support/connected-redis.ts";
import { type Fleet, startFleet } from "../support/fleet.ts";

const connected = connectedRedis();
let fleet: Fleet;
beforeAll(async () => {
  fleet = await startFleet({
    ...{ target: { kind: "standalone", url: connected.redis.url }, gateways: 0 },
    rules: { namespaces: { board: { changes: true } } },
  });
});
afterAll(async () => {
  await fleet.stop();
});

const url = "https://customer.example/new";
test.for([
  ["POST", "/resume", undefined],
  ["POST", "/go-live", { after: [] }],
  ["PATCH", "", { mode: "live" }],
  ["PATCH", "", { url }],
] as const)("EP-19: %s %s %j: failures from before do not count", async ([method, call, body]) => {
  const mode = call === "/go-live" ? "shadow" : "paused";
  const created = await fleet.api("POST", "/v1/endpoints", {
    ...{ url: "https://customer.example/old", channels: ["board:*"], mode },
  });
  const id = String(created.body["id"]);
  const attempts = new RedisAttemptLog(new Cells(connected.connections));
  const at = Date.now() - 6 * 86_400_000;
  await attempts.addFailure(id, { at, changeId: "msg_1", attempt: 1, ms: 1, error: "it was down" });
  const isRefused = await fleet.api("PATCH", `/v1/endpoints/${id}`, { url: "https://127.0.0.1/" });
  expect(isRefused.status).toBe(400);
  expect(await attempts.health([id])).toMatchObject([{ failingSince: at }]);
  const answer = await fleet.api(method, `/v1/endpoints/${id}${call}`, body);
  expect(answer.status, answer.text).toBe(200);
  const [health] = await attempts.health([id]);
  expect(health).not.toHaveProperty("failingSince");
});
