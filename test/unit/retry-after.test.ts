import { describe, expect, onTestFinished, test } from "vitest";
import { parseRetryAfter } from "../../shared/protocol/retry-after.ts";
import { answerJson, startService } from "../support/http-service.ts";
import { spawnProcess } from "../support/processes.ts";

const now = Date.parse("2026-03-04T05:06:07Z");
const hour = 3_600_000;

describe("WAIT-1: Retry-After is whole seconds, at most an hour, or nothing", () => {
  test.for([
    ["0", 0],
    ["7", 7_000],
    [" 7 ", 7_000],
    ["0.5", 1_000],
    ["1.5", 2_000],
    ["2.0", 2_000],
    ["3600", hour],
    ["3601", hour],
    ["99999999999999999999", hour],
    ["9".repeat(400), hour],
    ["Wed, 04 Mar 2026 05:06:17 GMT", 10_000],
    ["Wednesday, 04-Mar-26 05:06:17 GMT", 10_000],
    ["Wed, 04 Mar 2099 05:06:17 GMT", hour],
    ["Wed, 04 Mar 2026 05:06:06 GMT", undefined],
    ["Sun, 06 Nov 1994 08:49:37 GMT", undefined],
    ["-1", undefined],
    ["+1", undefined],
    ["1e3", undefined],
    ["0x10", undefined],
    ["1,5", undefined],
    ["1.", undefined],
    ["5 seconds", undefined],
    ["2026-03-04T05:07:07Z", undefined],
    ["Wed, GMT", undefined],
    ["soon", undefined],
    ["", undefined],
  ] as const)("%j: %d ms", ([header, expected]) => {
    expect(parseRetryAfter(header, now)).toBe(expected);
  });
});

test("WAIT-2: the rolling restart asks again when Retry-After says so, and stops at a refusal", async () => {
  const api = await startService();
  onTestFinished(() => api.stop());
  const askedAt: number[] = [];
  api.answer = (_request, response) => {
    askedAt.push(performance.now());
    if (askedAt.length === 1) response.writeHead(503, { "retry-after": "0.5" }).end("not now");
    else answerJson(response, { code: "missing_scope" }, 403);
  };
  const args = ["deploy/rolling-restart.ts", "--api", api.url, "--restart", "echo {node}"];
  const restart = spawnProcess(process.execPath, args, { env: { TIDEGATE_API_TOKEN: "token-of-an-operator" } });
  expect([await restart.exited, restart.output()]).toEqual([1, expect.stringContaining("403")]);
  const [first = 0, second = 0, ...more] = askedAt;
  expect(more).toEqual([]);
  expect(second - first).toBeGreaterThan(990);
});
