/** Values at JSON pointers in text, against those in the parsed value. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { parsePointer, valueAt } from "../../shared/json/json-pointer.ts";

/** JSON text with white space and escapes in names, as no serializer writes it. */
const jsonText = fc
  .tuple(fc.jsonValue({ maxDepth: 4 }), fc.constantFrom(0, 1, 3), fc.boolean())
  .map(([value, space, escapes]) => {
    const text = JSON.stringify(value, null, space);
    return escapes ? text.replaceAll(/"([a-z]+)":/g, (_name, letters: string) => `"${escaped(letters)}":`) : text;
  });

function escaped(letters: string): string {
  return letters.replaceAll(/./g, (letter) => `\\u00${letter.charCodeAt(0).toString(16)}`);
}

function pointersIn(value: unknown, prefix = ""): string[] {
  if (typeof value !== "object" || value === null) return [prefix];
  const inside = Object.entries(value).flatMap(([name, item]) =>
    pointersIn(item, `${prefix}/${name.replaceAll("~", "~0").replaceAll("/", "~1")}`),
  );
  return [prefix, ...inside];
}

function valueIn(value: unknown, pointer: string): unknown {
  return parsePointer(pointer).reduce<unknown>((at, name) => (at as Record<string, unknown>)[name], value);
}

test("ENQ-4: every value is found at its pointer, as it is written", () => {
  fc.assert(
    fc.property(jsonText, (text) => {
      const parsed: unknown = JSON.parse(text);
      for (const pointer of pointersIn(parsed)) {
        const found = valueAt(Buffer.from(` ${text}\n`), parsePointer(pointer));
        const written = found && Buffer.from(found).toString();
        expect(written?.trim()).toBe(written);
        expect(JSON.parse(written ?? "")).toEqual(valueIn(parsed, pointer));
      }
    }),
  );
});

test.each([
  ['{"a":1,"a":{"b":2}}', "/a/b", "2"],
  ['{"\\u0061\\"":1}', '/a"', "1"],
  ["[1, 2 ,3]", "/1", "2"],
  ["[]", "/0", undefined],
  ["[1]", "/00", undefined],
  ["[1]", "/length", undefined],
  ['{"a":1}', "/toString", undefined],
  ['"a"', "/0", undefined],
])("ENQ-4: %s has at %s the value %s", (text, pointer, value) => {
  const found = valueAt(Buffer.from(text), parsePointer(pointer));
  expect(found && Buffer.from(found).toString()).toBe(value);
});
