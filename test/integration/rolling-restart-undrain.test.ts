/** The rolling restart where a drain is called off, or its node is not listed for a moment. The API is played by the test. */
import { expect, onTestFinished, test } from "vitest";
import { answerJson, startService } from "../support/http-service.ts";
import { spawnProcess } from "../support/processes.ts";

test.each([
  {
    ...{ title: "after it has begun", polls: 1, seconds: 60 },
    says: "node-1: its drain was called off\nnode-1 is in service",
  },
  {
    ...{ title: "before it has begun", polls: 0, seconds: 1 },
    says: "node-1: draining not within 1 s\nnode-1 may have been ordered",
  },
])("CMD-2: a rolling restart ends at a drain that is called off $title", async ({ polls, seconds, says }) => {
  const api = await startService();
  onTestFinished(() => api.stop());
  let pollsLeft = Infinity;
  api.answer = ({ path }, response) => {
    if (path.endsWith("/drain")) pollsLeft = polls;
    const isDraining = pollsLeft !== Infinity && path === "/v1/nodes" && pollsLeft-- > 0;
    const node = { node: "node-1", instance: "1", connections: 1, state: isDraining ? "draining" : "ready" };
    answerJson(response, { nodes: [node] });
  };
  const args = ["--api", api.url, "--restart", "exit 3 # {node}", "--drain-seconds", String(seconds)];
  const command = spawnProcess(process.execPath, ["deploy/rolling-restart.ts", ...args], {
    env: { TIDEGATE_API_TOKEN: "token-of-an-operator" },
  });
  expect(await command.exited).toBe(1);
  expect(command.output()).toContain(says);
});

test("DRAIN-8: a node that the registry forgets for a moment is drained and restarted", async () => {
  const api = await startService();
  onTestFinished(() => api.stop());
  const node = { node: "node-1", instance: "1", connections: 1 };
  const drain = { startedAt: 0, endedAt: 1, sessions: 1, moved: 1, closed: 0, forced: 0, lost: 0, left: 0 };
  const draining = { ...node, state: "draining" };
  const lists = [[draining], [], [{ ...draining, drain }], [{ ...node, instance: "2", state: "ready" }]];
  let polls = -1;
  api.answer = ({ path }, response) => {
    if (path.endsWith("/drain")) polls = 0;
    else if (polls >= 0) return answerJson(response, { nodes: lists[Math.min(polls++, lists.length - 1)] });
    answerJson(response, { nodes: [{ ...node, state: "ready" }] });
  };
  const command = spawnProcess(
    process.execPath,
    ["deploy/rolling-restart.ts", "--api", api.url, "--restart", "true # {node}"],
    { env: { TIDEGATE_API_TOKEN: "token-of-an-operator" } },
  );
  expect(await command.exited).toBe(0);
  expect(command.output()).toContain("1 nodes restarted; sessions 1, moved 1");
});
