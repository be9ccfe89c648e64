/** How long revocations of one user are remembered. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { MemoryBroker } from "../../shared/channels/memory.ts";
import { identityKey } from "../../shared/protocol/identity-key.ts";
import { allChannels, maxResumeMs } from "../../shared/sessions/contract.ts";
import { MemorySessionStore } from "../../shared/sessions/memory.ts";
import { quietErrors } from "../support/logger.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

test("GRANT-2: a withdrawal covers its channel alone, however many there were in years", async () => {
  const store = new MemorySessionStore(new MemoryBroker(quietErrors), quietErrors);
  const user = identityKey({ user: "ada", tenant: undefined });
  // One a day, for about three years: of a resume token or a grant thirty days count.
  for (let day = 0; day < 1_100; day++) {
    await store.revoke(user, { kind: "grant", channel: `room:${day}` });
    vi.setSystemTime(Date.now() + 86_400_000);
  }
  expect(maxResumeMs).toBe(30 * 86_400_000);
  const granted = Date.now();
  vi.setSystemTime(granted + 1_000);
  await store.revoke(user, { kind: "grant", channel: "room:last" });
  const held = await store.claim({
    mode: "begin",
    user: "ada",
    tenant: undefined,
    sessionId: "s",
    claim: 0,
    checkedAt: 0,
    holder: "h",
    node: "n",
  });
  if (held.kind !== "held") throw new Error(held.kind);
  // A grant of another channel that was issued before that.
  expect((held.withdrawn.get(allChannels) ?? 0) >= granted).toBe(false);
  expect(held.withdrawn.has("room:last")).toBe(true);
});
