import fc from "fast-check";
import { expect, test } from "vitest";
import { readEmit } from "../../private-api/bridges/received-emit.ts";
import { RoomMap } from "../../shared/rules/bridge-rooms.ts";

const rooms = new RoomMap({ "board-{id}": "board:{id}" });

test("BRI-12: whatever stands in a message of the old fleet, reading it throws nothing", () => {
  const value = fc.anything({
    withBigInt: true,
    withDate: true,
    withTypedArray: true,
    withMap: true,
    withNullPrototype: true,
  });
  const options = fc.record({
    rooms: fc.constantFrom(
      new Set(["board-1"]),
      new Set([42, "board-1"]),
      new Set([{ toString: 1 }, "board-1"]),
      undefined,
      ["board-1"],
    ),
    except: fc.oneof(
      value,
      fc.array(value).map((names) => new Set(names)),
      fc.constant(new Set(["x".repeat(20)])),
    ),
    flags: value,
  });
  const packet = fc.oneof(value, fc.record({ type: value, data: fc.array(value) }));
  const likely = fc.tuple(fc.constant("note"), value).map((data) => ({ type: 2, data }));
  fc.assert(
    fc.property(fc.oneof(packet, likely), fc.oneof(options, value), (given, about) => {
      const reading = readEmit({ packet: given, options: about }, rooms, "identity");
      if (reading.kind !== "carried") return;
      for (const { data } of reading.emits) expect(() => JSON.parse(data) as unknown).not.toThrow();
    }),
  );
});

test("BRI-6: an emit to more than 100 carried rooms is refused, other rooms do not count", () => {
  const reading = (carried: number): unknown => {
    const named = Array.from({ length: carried }, (_, n) => `board-${n}`);
    const others = Array.from({ length: 200 }, (_, n) => `other-${n}`);
    return readEmit(
      { packet: { type: 2, data: ["note", 1] }, options: { rooms: new Set([...named, ...others]) } },
      rooms,
      "",
    );
  };
  expect(reading(100)).toMatchObject({ kind: "carried", emits: { length: 100 } });
  expect(reading(101)).toEqual({ kind: "refused", reason: "too_many_rooms" });
});

test("BRI-6: a carried room that looks like a socket id is still a room to the exception of an emit", () => {
  const packet = { type: 2, data: ["note", 1] };
  const kindOf = (room: string, name: string, template: string): string => {
    const options = { rooms: new Set([room]), except: new Set([name]) };
    return readEmit({ packet, options }, new RoomMap({ [template]: "board:{id}" }), "").kind;
  };
  const socket = "k3_uT-9aQzL0bXcVAAAB";
  expect(kindOf("workspace-1", "workspace-moderators", "workspace-{id}")).toBe("refused");
  expect(kindOf("workspace-1", socket, "workspace-{id}")).toBe("carried");
  // Here every socket has the name of a carried room: its own.
  expect(kindOf("1", socket, "{id}")).toBe("carried");
});

test("BRI-6: JSON of 128 levels crosses, and more is refused as too deep", () => {
  const reading = (levels: number): unknown => {
    const argument = JSON.parse("[".repeat(levels) + "]".repeat(levels)) as unknown;
    return readEmit(
      { packet: { type: 2, data: ["note", argument] }, options: { rooms: new Set(["board-1"]) } },
      rooms,
      "",
    );
  };
  expect(reading(128)).toMatchObject({ kind: "carried" });
  expect(reading(129)).toEqual({ kind: "refused", reason: "too_deep" });
});
