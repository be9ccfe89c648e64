/** No two users share a name in Redis or in memory, whatever their tenants and names. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { parseTopicName, slotTagOf, topicName } from "../../shared/channels/keys.ts";
import { eventId } from "../../shared/services/cloudevents.ts";
import { identityKey, type UserIdentity } from "../../shared/protocol/identity-key.ts";
import { endedKey, formatHolding, type Holding, parseHolding, userKeys } from "../../shared/sessions/keys.ts";

/** Separators, quotes and escapes of all formats, and unusual names. */
const pieces = [
  "a",
  "b",
  ":",
  "%",
  "3A",
  "%3A",
  "{",
  "}",
  " ",
  '"',
  "\\",
  "\n",
  "\u0000",
  "\u001f",
  "1F",
  "@",
  "ä",
  "🚀",
];
const name = fc.array(fc.constantFrom(...pieces), { minLength: 1, maxLength: 4 }).map((parts) => parts.join(""));
const anyName = fc.oneof(name, fc.string({ unit: "binary", minLength: 1, maxLength: 20 }));
const identity: fc.Arbitrary<UserIdentity> = fc.record(
  { user: anyName, tenant: fc.option(anyName, { nil: undefined }) },
  { requiredKeys: ["user"] },
);
const sessionId = "0d4e2f0c-4d7b-4d4e-a7b6-0f0d6a1c2b3e";
const runs = { numRuns: 20_000 };
const root = "tidegate";

function isSame(one: UserIdentity, other: UserIdentity): boolean {
  return one.user === other.user && one.tenant === other.tenant;
}

/** Every name that contains a user. */
function namesOf(of: UserIdentity): string[] {
  const user = identityKey(of);
  const { sessions, revoked } = userKeys(root, user);
  const holdings: Holding[] = [
    { kind: "session", sessionId, user },
    { kind: "membership", sessionId, channel: "room:1", user },
  ];
  return [
    user,
    sessions,
    revoked,
    endedKey(root, user, sessionId),
    topicName(root, { kind: "user", name: user }),
    eventId(user, "1"),
    ...holdings.map(formatHolding),
  ];
}

test("TEN-5: different users have different keys, whatever their names and tenants", () => {
  fc.assert(
    fc.property(identity, identity, (one, other) => {
      const [names, others] = [namesOf(one), namesOf(other)];
      const shared = names.filter((text) => others.includes(text));
      expect(shared).toEqual(isSame(one, other) ? names : []);
    }),
    runs,
  );
});

test("TEN-5: no two short names of awkward characters collide", () => {
  const awkward = ["a", ":", "%", "3A", " ", "\u001f"];
  const pairs = awkward.flatMap((first) => ["", ...awkward].map((second) => first + second));
  // Spelled as the keys of users of a tenant.
  const names = [...pairs, "\u001fa:a", "\u001f%3A:a"];
  const tenants = [undefined, ...names];
  const keys = tenants.flatMap((tenant) => names.map((user) => identityKey({ user, tenant })));
  const distinct = new Set(tenants.flatMap((tenant) => names.map((user) => JSON.stringify([tenant ?? null, user]))));
  expect(new Set(keys).size).toBe(distinct.size);
  // Also in UTF-8, as sent to Redis.
  expect(new Set(keys.map((key) => Buffer.from(key).toString("hex"))).size).toBe(distinct.size);
});

test("TEN-5: all names of one user are in one slot and can be parsed back", () => {
  fc.assert(
    fc.property(identity, (of) => {
      const user = identityKey(of);
      const { sessions, revoked } = userKeys(root, user);
      const topic = topicName(root, { kind: "user", name: user });
      for (const text of [sessions, revoked, endedKey(root, user, sessionId), topic]) {
        expect(text.startsWith(`${slotTagOf(root, user)}:`)).toBe(true);
        expect(text.indexOf("}")).toBe(slotTagOf(root, user).length - 1);
      }
      expect(parseTopicName(root, topic)).toEqual({ kind: "user", name: user });
      const session: Holding = { kind: "session", sessionId, user };
      const membership: Holding = { kind: "membership", sessionId, channel: "room:1", user };
      expect([session, membership].map(formatHolding).map(parseHolding)).toEqual([session, membership]);
    }),
    runs,
  );
});

test("TEN-5: the keys of users without a tenant equal those in stored data", () => {
  const user = identityKey({ user: "ada: {x} 100%" });
  expect(user).toBe("ada: {x} 100%");
  expect(topicName(root, { kind: "user", name: user })).toMatch(/^tidegate:\{\d+\}:user:ada: \{x\} 100%$/);
  expect(userKeys(root, identityKey({ user: "ada" }))).toEqual({
    sessions: "tidegate:{50}:sessions:ada",
    revoked: "tidegate:{50}:revoked:ada",
  });
});

test("TEN-4: the ce-id of a repeat differs between tenants", () => {
  const ada = { user: "ada" };
  expect(eventId(identityKey(ada), "move-7")).toBe("cJmx15n6QMzwncsaTeYmGeAPicDKKPs-jqarHi9t61c");
  const ids = [ada, { ...ada, tenant: "a" }, { ...ada, tenant: "b" }].map((of) => eventId(identityKey(of), "move-7"));
  expect(new Set(ids).size).toBe(3);
  expect(ids.every((id) => !id.includes("."))).toBe(true);
});
