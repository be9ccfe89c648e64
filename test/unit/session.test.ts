import { expect, test } from "vitest";
import type { Credentials } from "../../gateway/authentication.ts";
import { Outbox } from "../../gateway/outbox.ts";
import { Session } from "../../gateway/session.ts";

const credentials: Credentials = {
  user: "ada",
  tenant: undefined,
  channels: [],
  expiresAt: Date.now() + 3_600_000,
  claims: {},
  tokenId: "",
};

function createSession(sessionId: string): Session {
  return new Session({
    sessionId,
    credentials,
    grantedChannels: [],
    info: undefined,
    outbox: new Outbox({ sink: { write: () => undefined }, maxBytes: 1_024, onOverflow: () => undefined }),
    transport: { close: () => undefined, terminate: () => undefined },
  });
}

test("RES-1: a newer claim that is heard of before its own is known ends a session as well", () => {
  const session = createSession("s");
  // Its own, and that of whoever came next: both arrive before the store's answer to its own.
  session.hearOf(10);
  session.hearOf(11);
  session.hold({ sessionId: "s", claim: 10, checkedAt: 1 }, { resumed: true });
  expect(session.endedBy).toBe("replaced");
  session.dispose();
});

test("GRANT-2: a withdrawal counts from its date, in whatever order withdrawals are heard of; what is granted after it stays", () => {
  const session = createSession("s");
  session.withdraw(new Map([["room:1", 20]]));
  session.withdraw(new Map([["room:1", 10]]));
  expect([19, 20, 21].map((at) => session.isWithdrawn("room:1", at))).toEqual([true, true, false]);
  expect(session.isWithdrawn("room:2", 5)).toBe(false);
  // The node's idea of the store's clock is behind.
  expect(session.isWithdrawn("room:1", session.dateGrant("room:1", 15))).toBe(false);
  session.withdraw(new Map([["*", 40]]));
  expect(session.isWithdrawn("room:2", 40)).toBe(true);
  expect(session.isWithdrawn("room:2", session.dateGrant("room:2", 15))).toBe(false);
  session.dispose();
});

test("RES-1: neither its own claim nor one of the session that it does not go on with ends a session", () => {
  const session = createSession("s");
  session.hearOf(10);
  session.hold({ sessionId: "s", claim: 10, checkedAt: 1 }, { resumed: true });
  const anew = createSession("s");
  anew.hearOf(10);
  anew.hold({ sessionId: "t", claim: 0, checkedAt: 1 }, { resumed: false });
  anew.hold({ sessionId: "t", claim: 5, checkedAt: 1 }, { resumed: false });
  expect([session.endedBy, anew.endedBy]).toEqual([undefined, undefined]);
  for (const each of [session, anew]) each.dispose();
});
