import { expect, onTestFinished, test, vi } from "vitest";
import { RelayClient } from "../../gateway/relay/relay-client.ts";
import type { CallOutcome } from "../../shared/services/answers.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";

test("RELAY-1: a call waits for a private API for 2 s, however long its service may take", async () => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const relay = new RelayClient({
    addresses: ["http://127.0.0.1:1"],
    token: "token",
    node: "node",
    profile: { instance: "instance", maxConnections: 1, resumeSecrets: [], jwtSecrets: [] },
    burst: 100,
    errors: quietErrors,
    logger: quietLogger,
  });
  const identity = { user: "ada", sessionId: "s", claims: {} };
  const common = { event: "card.move", eventId: "id", identity, traceparent: "00-0-0-00" };
  const outcomes: CallOutcome[] = [];
  for (const timeoutMs of [60_000, 1_000]) {
    const target = { service: "work", data: "1", dataBytes: 1 };
    void relay.ask({ kind: "call", ...common, timeoutMs }, target).then((outcome) => outcomes.push(outcome));
  }
  await vi.advanceTimersByTimeAsync(1_999);
  expect([outcomes.length, relay.pendingCount]).toEqual([1, 1]);
  await vi.advanceTimersByTimeAsync(1);
  const refused = { ok: false, error: expect.objectContaining({ code: "upstream_unavailable" }) as unknown };
  expect(outcomes).toEqual([refused, refused]);
});
