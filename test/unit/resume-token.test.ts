import { expect, onTestFinished, test, vi } from "vitest";
import { ResumeTokens } from "../../gateway/sessions/resume-token.ts";

const minuteMs = 60_000;
const dayMs = 86_400_000;

test.each([
  ["15 min after the exp of its JWT", 60 * minuteMs, 75 * minuteMs],
  ["30 days", 365 * dayMs, 30 * dayMs],
])("RES-4: a resume token is valid for %s at most", (_, expiresInMs, validMs) => {
  vi.useFakeTimers({ toFake: ["Date"], now: 1_800_000_000_000 });
  onTestFinished(() => void vi.useRealTimers());
  const tokens = new ResumeTokens(["a secret"]);
  const expiresAt = Date.now() + expiresInMs;
  const claims = { sub: "ada", exp: expiresAt / 1_000 };
  const credentials = { user: "ada", tenant: undefined, channels: [], expiresAt, claims, tokenId: "one" };
  const held = { sessionId: "s", claim: 1, checkedAt: 1 };
  const sealed = tokens.seal({ ...held, credentials, issuedAt: 1, grantedChannels: [], info: undefined }) ?? "";
  vi.setSystemTime(Date.now() + validMs - 1);
  expect(tokens.open(sealed)).toMatchObject(held);
  vi.setSystemTime(Date.now() + 1);
  expect(tokens.open(sealed)).toBeUndefined();
});
