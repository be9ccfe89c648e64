import fc from "fast-check";
import { expect, test } from "vitest";
import { meetings, RoomMap, Template } from "../../shared/rules/bridge-rooms.ts";
import { checkRules } from "../../shared/rules/document.ts";
import { InvalidDocument } from "../../shared/runtime/invalid-document.ts";

const base = { redis: "env:LEGACY_REDIS_URL", adapter: "classic", direction: "in" };

function findingsOf(bridges: object, namespaces: object = {}): readonly string[] {
  try {
    checkRules({ bridges, namespaces });
    return [];
  } catch (error) {
    if (error instanceof InvalidDocument) return error.findings;
    throw error;
  }
}

const findingsOfRooms = (rooms: object): readonly string[] => findingsOf({ legacy: { ...base, rooms } });

test.each<[rooms: Record<string, string>, finding: string]>([
  [{}, "names no room"],
  [{ "board-{id}": "board:{other}" }, "must have the same placeholders"],
  [{ "board-{id}": "board:all" }, "must have the same placeholders"],
  [{ "{id}-{id}": "board:{id}" }, "names a placeholder twice"],
  [{ "{a}{b}": "board:{a}.{b}" }, "must have text between them"],
  [{ "board-{i d}": "board:{i d}" }, "{i d} is no name of a placeholder"],
  [{ "board-{id}": "{id}" }, "must begin with a namespace"],
  [{ "board-{id}": "Board:{id}" }, "must begin with a namespace"],
  [{ "board-{id}": "board:{id} x" }, "can never be a channel"],
  [{ "board-{id}": "board:{id}", "board-x-{id}": "other:{id}" }, "a room can match both"],
  [{ "board-{id}": "board:{id}", "old-{id}": "board:{id}" }, "a channel can match both"],
  [{ "board-{id}": "board:{id}", lobby: "board:lobby" }, "a channel can match both"],
])("BRI-1: rooms that do not map to one channel each, and back, are refused: %o", (rooms, finding) => {
  const [found = "", ...others] = findingsOfRooms(rooms);
  expect(found).toMatch(/^bridges\.legacy\.rooms/);
  expect(found).toContain(finding);
  expect(others).toEqual([]);
});

test("BRI-1: every other mistake of a bridge has a finding, and none repeats a URL", () => {
  const rooms = { "board-{id}": "board:{id}" };
  const both = { ...base, direction: "both", rooms };
  expect(findingsOf({ legacy: both })[0]).toContain("namespaces.board needs changes: true");
  expect(findingsOf({ legacy: both }, { board: { changes: true } })).toEqual([]);
  expect(findingsOf({ legacy: both }, { default: { changes: true } })).toEqual([]);
  expect(findingsOf({ legacy: both }, { default: { changes: true }, board: { changes: false } })).toHaveLength(1);
  expect(findingsOf({ one: { ...base, rooms }, two: { ...base, rooms } })[0]).toContain(
    "a channel belongs to one bridge",
  );
  const withUrl = findingsOf({ legacy: { ...base, rooms, redis: "redis://user:never-in-a-log@host" } });
  expect(withUrl[0]).toContain("bridges.legacy.redis: must name a variable");
  expect(withUrl.join()).not.toContain("never-in-a-log");
  expect(findingsOf({ legacy: { ...base, rooms, adapter: "mongo" } })).not.toEqual([]);
  expect(findingsOf({ legacy: { ...base, rooms, namespace: "chat" } })).not.toEqual([]);
  expect(findingsOf({ legacy: { ...base, rooms, maxLen: 20_000 } })[0]).toContain("legacy.maxLen: only the streams");
  expect(findingsOf({ legacy: { ...base, rooms, maxLen: 20_000, adapter: "streams" } })).toEqual([]);
  expect(findingsOf({ legacy: { ...base, rooms, maxLen: 0, adapter: "streams" } })).not.toEqual([]);
});

test("BRI-1: what is wrong with a bridge hides nothing that is wrong besides, in this bridge or between two", () => {
  const findings = findingsOf({
    one: { ...base, redis: "redis://host", rooms: { "one-{id}": "board:{id}", "{a}{b}": "board:{a}.{b}" } },
    two: { ...base, direction: "both", rooms: { "two-{id}": "board:{id}", "two-x-{id}": "x:{id}", all: "board:{id}" } },
  });
  expect(findings).toEqual([
    expect.stringContaining("bridges.one.rooms.{a}{b}: two placeholders must have text between them"),
    expect.stringContaining("bridges.one.redis: must name a variable"),
    expect.stringContaining("bridges.two.rooms.all:"),
    expect.stringContaining('bridges.two.rooms: a room can match both "two-{id}" and "two-x-{id}"'),
    expect.stringContaining("namespaces.board needs changes: true"),
    expect.stringContaining("namespaces.x needs changes: true"),
    expect.stringContaining('"board:{id}" and "board:{id}" of bridges.one: a channel belongs to one bridge'),
  ]);
});

test("BRI-1: templates that one text can match are found among many, and no others", () => {
  const part = fc.string({ unit: fc.constantFrom("a", "b"), maxLength: 3 });
  const text = fc.tuple(part, fc.constantFrom("", "{x}", "{x}.{y}"), part).map((parts) => parts.join(""));
  fc.assert(
    fc.property(fc.array(text, { maxLength: 12 }), (texts) => {
      const templates = texts.map((each) => new Template(each, ["."]));
      const found = [...meetings(templates)];
      const expected = templates.flatMap((one, index) =>
        templates.slice(index + 1).flatMap((other) => (mayMeet(one, other) ? [[one, other]] : [])),
      );
      expect(found).toEqual(expected);
    }),
  );
});

/** Compares the texts themselves. */
function mayMeet(one: Template, other: Template): boolean {
  if (one.names.length === 0) return other.pattern.test(one.text);
  if (other.names.length === 0) return one.pattern.test(other.text);
  const begins = one.prefix.startsWith(other.prefix) || other.prefix.startsWith(one.prefix);
  return begins && (one.suffix.endsWith(other.suffix) || other.suffix.endsWith(one.suffix));
}

const rooms = new RoomMap({
  "board-{id}": "board:{id}",
  lobby: "chat:lobby",
  "team:{team}/user:{user}": "team:{user}.of.{team}",
});

test("BRI-1: a room has one channel and a channel one room, whatever their names", () => {
  const name = fc.string({ unit: fc.constantFrom(..."a b 1 - _ . : @ / ü".split(" ")), maxLength: 12 });
  const room = fc.oneof(
    name,
    name.map((id) => `board-${id}`),
    fc.tuple(name, name).map(([team, user]) => `team:${team}/user:${user}`),
  );
  fc.assert(
    fc.property(room, (given) => {
      const channel = rooms.channelOf(given);
      if (channel !== undefined) expect(rooms.roomOf(channel)).toBe(given);
    }),
  );
  const channel = fc.oneof(
    name.map((id) => `board:${id}`),
    fc.tuple(name, name).map(([team, user]) => `team:${user}.of.${team}`),
  );
  fc.assert(
    fc.property(channel, (given) => {
      const mapped = rooms.roomOf(given);
      if (mapped !== undefined && rooms.channelOf(mapped) !== undefined) expect(rooms.channelOf(mapped)).toBe(given);
    }),
  );
  expect(rooms.channelOf("lobby")).toBe("chat:lobby");
  expect(rooms.channelOf("board-42")).toBe("board:42");
  expect(rooms.channelOf("team:a/user:b")).toBe("team:b.of.a");
  expect(rooms.channelOf("board-ü")).toBeUndefined();
  expect(rooms.channelPatterns).toEqual(["board:*", "chat:lobby", "team:*"]);
});
