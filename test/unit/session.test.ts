import { expect, test } from "vitest";
import { bareSession } from "../support/bare-session.ts";

test("RES-1: a newer claim that is heard of before its own is known ends a session as well", () => {
  const session = bareSession("s");
  // Its own, and that of whoever came next: both arrive before the store's answer to its own.
  session.hearOf(10);
  session.hearOf(11);
  session.hold({ sessionId: "s", claim: 10, checkedAt: 1 }, { resumed: true, tookOver: false });
  expect(session.endedBy).toBe("replaced");
  session.dispose();
});

test("GRANT-2: a withdrawal counts from its date, in whatever order withdrawals are heard of; what is granted after it stays", () => {
  const session = bareSession("s");
  session.withdraw(new Map([["room:1", 20]]));
  session.withdraw(new Map([["room:1", 10]]));
  expect([19, 20, 21].map((at) => session.permissions.isWithdrawn("room:1", at))).toEqual([true, true, false]);
  expect(session.permissions.isWithdrawn("room:2", 5)).toBe(false);
  // The node's idea of the store's clock is behind.
  expect(session.permissions.isWithdrawn("room:1", session.permissions.dateGrant("room:1", 15))).toBe(false);
  session.withdraw(new Map([["*", 40]]));
  expect(session.permissions.isWithdrawn("room:2", 40)).toBe(true);
  expect(session.permissions.isWithdrawn("room:2", session.permissions.dateGrant("room:2", 15))).toBe(false);
  session.dispose();
});

test("RES-1: neither its own claim nor one of the session that it does not go on with ends a session", () => {
  const session = bareSession("s");
  session.hearOf(10);
  session.hold({ sessionId: "s", claim: 10, checkedAt: 1 }, { resumed: true, tookOver: false });
  const anew = bareSession("s");
  anew.hearOf(10);
  anew.hold({ sessionId: "t", claim: 0, checkedAt: 1 }, { resumed: false, tookOver: false });
  anew.hold({ sessionId: "t", claim: 5, checkedAt: 1 }, { resumed: false, tookOver: false });
  expect([session.endedBy, anew.endedBy]).toEqual([undefined, undefined]);
  for (const each of [session, anew]) each.dispose();
});
