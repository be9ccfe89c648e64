import fc from "fast-check";
import { Decoder, Encoder, type Packet as LibraryPacket, PacketType } from "socket.io-parser";
import { expect, test, vi } from "vitest";
import { type Packet, PacketDecoder } from "../../gateway/engine/packet-decoder.ts";
import { oversizedAuth } from "../../gateway/entrance/auth-bound.ts";

/** @returns undefined where the decoder rejects the text. */
function decoded(text: string): Packet | undefined {
  let packet: Packet | undefined;
  const decoder = new PacketDecoder();
  decoder.on("decoded", (found) => (packet = found));
  try {
    decoder.add(text);
  } catch {
    return undefined;
  }
  return packet;
}

function decodedByLibrary(text: string): LibraryPacket | undefined {
  let packet: LibraryPacket | undefined;
  const decoder = new Decoder();
  decoder.on("decoded", (found: LibraryPacket) => (packet = found));
  try {
    decoder.add(text);
  } catch {
    return undefined;
  }
  return packet;
}

const anyPacket = fc.oneof(
  fc.record({
    type: fc.constant(PacketType.EVENT),
    nsp: fc.constantFrom("/", "/other"),
    id: fc.option(fc.nat(), { nil: undefined }),
    data: fc.tuple(fc.oneof(fc.string(), fc.nat(), fc.constantFrom("disconnecting", "connect")), fc.jsonValue()),
  }),
  fc.record({
    type: fc.constant(PacketType.CONNECT),
    nsp: fc.constantFrom("/", "/other"),
    data: fc.dictionary(fc.string(), fc.jsonValue()),
  }),
  fc.record({ type: fc.constant(PacketType.DISCONNECT), nsp: fc.constantFrom("/", "/other") }),
);

test("BAD-6: the decoder agrees with Socket.IO's own decoder on every packet", () => {
  fc.assert(
    fc.property(anyPacket, (packet) => {
      const [text] = new Encoder().encode(packet as LibraryPacket) as [string];
      const expected = decodedByLibrary(text);
      const found = decoded(text);
      expect(found === undefined).toBe(expected === undefined);
      if (!expected || !found) return;
      const { type, nsp, id, data, event } = found;
      const args = event?.args.map(({ text }) => JSON.parse(text) as unknown);
      const [name, ...others] = event ? (expected.data as [string | number, ...unknown[]]) : [];
      expect({ type, nsp, id, data, name: event?.name, args }).toEqual({
        type: expected.type,
        nsp: expected.nsp,
        id: expected.id,
        data: event ? undefined : (expected.data as unknown),
        name: event && String(name),
        args: event && others,
      });
    }),
  );
});

test("BAD-6: text that is no packet is rejected", () => {
  const wrong = ["", "9", "x", "2", "2{}", "2[]", "2[{}]", "20", "0[]", "0null", '05"', "1[]", "4{}", "5-[]", "50-[]"];
  for (const text of [...wrong, "5x-[]", `2${"1".repeat(16)}["a"]`, `2/${"n".repeat(300)},["a"]`, "2/a"]) {
    expect(decoded(text), text).toBeUndefined();
  }
});

test("LIM-9: an auth of 48 KiB is read, one byte more is not", () => {
  const auth = (bytes: number): string => `{"token":"${"x".repeat(bytes - 12)}"}`;
  expect(decoded(`0${auth(48 * 1024)}`)?.data).toMatchObject({ token: /x+/.exec(auth(48 * 1024))?.[0] });
  expect(decoded(`0${auth(48 * 1024 + 1)}`)?.data).toBe(oversizedAuth);
});

test("BAD-6: any text is either a packet or rejected", () => {
  const pieces = fc.constantFrom(
    ...Array.from("0123456789"),
    "-",
    "/",
    ",",
    "[",
    "]",
    "{",
    "}",
    '"',
    "a",
    ":",
    " ",
    "null",
  );
  fc.assert(fc.property(fc.array(pieces, { maxLength: 12 }), (parts) => void decoded(parts.join(""))));
});

test("HOST-3: an event that is too deep, or has too many values, is never parsed", () => {
  const parse = vi.spyOn(JSON, "parse");
  const deep = decoded(`27["doc.open",${"[".repeat(50_000)}`);
  const event = { name: "doc.open", args: [], flaw: "too_deep" };
  expect(deep).toEqual({ type: PacketType.EVENT, nsp: "/", id: 7, event });
  expect(decoded(`2["doc.open",[${"[],".repeat(100_000)}0]]`)).toBeUndefined();
  for (const [text] of parse.mock.calls) expect(text.length).toBeLessThan(100);
  parse.mockRestore();
  expect(decoded(`2["doc.open",[${"0,".repeat(60_000)}0]]`)?.event?.flaw).toBeUndefined();
});

test("BAD-2: an event whose data is nested too deep has its name and its flaw, whatever its name is", () => {
  for (const literal of ["1e3", '"error"', '""', `"${"x".repeat(300)}"`]) {
    const deep = decoded(`2[${literal},${"[".repeat(200)}`);
    expect(deep?.event).toEqual({ name: decoded(`2[${literal}]`)?.event?.name, args: [], flaw: "too_deep" });
  }
});

test("BAD-6: an event with a reserved name, or none, is not decoded, however deep its data", () => {
  const deep = "[".repeat(200);
  for (const text of [`2["disconnecting",${deep}`, `2[null,${deep}`, `2[${deep}`])
    expect(decoded(text)).toBeUndefined();
});

test("TEXT-3: data, and a number as an event name, stay as the client wrote them", () => {
  const event = (text: string): unknown[] => {
    const found = decoded(text)?.event;
    return [found?.name, ...(found?.args.map((argument) => argument.text) ?? [])];
  };
  expect(event('2[ 9007199254740993 , { "a" : [ 1e999 ,\r\n-0 ] , "a" : "\\ud800 \\u00e9" } ]')).toEqual([
    "9007199254740993",
    '{"a":[1e999,-0],"a":"\\ud800 \\u00e9"}',
  ]);
  expect(event('2[1e3,"",null]')).toEqual(["1e3", '""', "null"]);
  const nested = (levels: number): string => `2["a",${"[".repeat(levels)}${"]".repeat(levels)}]`;
  expect(decoded(nested(128))?.event?.flaw).toBeUndefined();
  expect(decoded(nested(129))?.event?.flaw).toBe("too_deep");
});
