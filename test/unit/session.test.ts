import { expect, test } from "vitest";
import { eventFrame } from "../../gateway/outbox/frames.ts";
import { Permissions } from "../../gateway/sessions/permissions.ts";
import { bareSession } from "../support/bare-session.ts";

test("RES-1: a newer claim ends a session, also where it is known before its own claim", () => {
  const session = bareSession("s");
  // Its own claim, and a newer one: both arrive before the store's answer.
  session.succession.noticeClaim(10);
  session.succession.noticeClaim(11);
  session.applyClaim({ sessionId: "s", claim: 10, checkedAt: 1 }, { resumed: true, tookOver: false });
  expect(session.endedBy).toBe("replaced");
  session.dispose();
});

test("GRANT-2: withdrawals arrive in any order; a grant stays where it is newer than all of them", () => {
  const session = bareSession("s");
  session.permissions.withdraw(new Map([["room:1", 20]]));
  session.permissions.withdraw(new Map([["room:1", 10]]));
  expect([19, 20, 21].map((at) => session.permissions.isWithdrawn("room:1", at))).toEqual([true, true, false]);
  expect(session.permissions.isWithdrawn("room:2", 5)).toBe(false);
  // The node's estimate of the store's clock is behind.
  expect(session.permissions.isWithdrawn("room:1", session.permissions.dateGrant("room:1", 15))).toBe(false);
  session.permissions.withdraw(new Map([["*", 40]]));
  expect(session.permissions.isWithdrawn("room:2", 40)).toBe(true);
  expect(session.permissions.isWithdrawn("room:2", session.permissions.dateGrant("room:2", 15))).toBe(false);
  session.dispose();
});

test("RES-1: a session is not ended by its own claim, nor by a claim of another session", () => {
  const session = bareSession("s");
  session.succession.noticeClaim(10);
  session.applyClaim({ sessionId: "s", claim: 10, checkedAt: 1 }, { resumed: true, tookOver: false });
  const other = bareSession("s");
  other.succession.noticeClaim(10);
  other.applyClaim({ sessionId: "t", claim: 0, checkedAt: 1 }, { resumed: false, tookOver: false });
  other.applyClaim({ sessionId: "t", claim: 5, checkedAt: 1 }, { resumed: false, tookOver: false });
  expect([session.endedBy, other.endedBy]).toEqual([undefined, undefined]);
  for (const each of [session, other]) each.dispose();
});

test.each([undefined, 9e9])(
  "PERM-3: a token with iat %s counts as issued by the clock that dates withdrawals",
  (iat) => {
    const credentials = { user: "ada", tenant: undefined, channels: ["room:*"], tokenId: "one" };
    const given = { ...credentials, expiresAt: Date.now() + 60_000, claims: { ...(iat !== undefined && { iat }) } };
    let storeNow = 1_000;
    const permissions = new Permissions({
      credentials: given,
      grantedChannels: [],
      storeNow: () => storeNow,
      onExpired: () => undefined,
    });
    permissions.withdraw(new Map([["room:1", 1_000]]));
    expect(["room:1", "room:2"].map((channel) => permissions.allows(channel))).toEqual([false, true]);
    storeNow = 1_001;
    permissions.renew({ ...given, tokenId: "two" });
    expect(permissions.allows("room:1")).toBe(true);
    permissions.end();
  },
);

test("OUT-5: USR-2: an ended session closes once its notice has left, whatever arrives for it meanwhile", () => {
  const written: string[] = [];
  let take = (): void => undefined;
  const session = bareSession("s", "ada", {
    write: (packet, _options, sent = take) => {
      written.push(packet);
      take = sent;
    },
  });
  session.welcome(eventFrame("sync:welcome", {}));
  session.end("disconnected", "banned", { reconnect: false });
  // One frame more arrives while each is on its way.
  for (const offset of [1, 2]) {
    session.outbox.send(eventFrame("moved", { offset }));
    take();
  }
  expect(session.disposed).toBe(true);
  expect(written).toEqual([expect.stringContaining("sync:welcome"), expect.stringContaining("sync:disconnect")]);
});

test("the identity of a session is one object until a claim or a token changes it", () => {
  const session = bareSession("s");
  const first = session.identity;
  expect(session.identity).toBe(first);
  session.applyClaim({ sessionId: "t", claim: 5, checkedAt: 1 }, { resumed: true, tookOver: false });
  const resumed = session.identity;
  expect(resumed).toEqual({ ...first, sessionId: "t" });
  session.renew({ ...session.credentials, claims: { role: "editor" } });
  expect(session.identity).toEqual({ ...resumed, claims: { role: "editor" } });
  expect(session.identity).toBe(session.identity);
  session.dispose();
});
