import fc from "fast-check";
import { expect, test } from "vitest";
import { isTooDeep, measureJson, parseJson, splitJsonArray } from "../../shared/json/json.ts";

const anyJson = fc.jsonValue({ depthSize: "large", maxDepth: 12 });

test("measured before it is parsed, a JSON text is as deep as its value", () => {
  fc.assert(
    fc.property(anyJson, fc.constantFrom(undefined, 1), (value, indent) => {
      const { depth } = measureJson(JSON.stringify(value, undefined, indent));
      expect(isTooDeep(value, depth)).toBe(false);
      if (depth > 0) expect(isTooDeep(value, depth - 1)).toBe(true);
    }),
  );
});

test("the structure of a JSON text is what remains of it without its scalars and white space", () => {
  fc.assert(
    fc.property(anyJson, (value) => {
      const text = JSON.stringify(value);
      const bare = text.replaceAll(/"(?:[^"\\]|\\.)*"|[\w.+-]+/g, "");
      expect(measureJson(text).structure).toBe(bare.length);
      expect(measureJson(JSON.stringify(value, undefined, 2)).structure).toBe(bare.length);
    }),
  );
});

test("the widest object of a JSON text has as many members as measured", () => {
  const widestOf = (value: unknown): number => {
    if (typeof value !== "object" || value === null) return 0;
    const own = Array.isArray(value) ? 0 : Object.keys(value).length;
    return Math.max(own, ...Object.values(value).map(widestOf));
  };
  fc.assert(
    fc.property(anyJson, (value) => {
      const read: unknown = JSON.parse(JSON.stringify(value));
      expect(measureJson(JSON.stringify(value)).widest).toBe(widestOf(read));
    }),
  );
});

test("a text that is no JSON is measured, too", () => {
  expect(measureJson('[[["]]]')).toEqual({ depth: 3, structure: 3, widest: 0 });
  expect(measureJson("]]]{")).toEqual({ depth: 1, structure: 4, widest: 0 });
  expect(measureJson('"\\')).toEqual({ depth: 0, structure: 0, widest: 0 });
});

test("an array is split into the texts of its items", () => {
  fc.assert(
    fc.property(fc.array(anyJson), fc.constantFrom(undefined, 1), (items, indent) => {
      const texts = splitJsonArray(JSON.stringify(items, undefined, indent), items.length);
      expect(texts?.map(parseJson)).toEqual(JSON.parse(JSON.stringify(items)));
    }),
  );
});

test("a text that is split into JSON items is JSON, and the other way round", () => {
  const token = fc.constantFrom("[", "]", "{", "}", ",", ":", '"', "\\", "1", "a", " ", "null");
  fc.assert(
    fc.property(fc.array(token, { maxLength: 12 }), (tokens) => {
      const text = `[${tokens.join("")}]`;
      const items = splitJsonArray(text, 100)?.map(parseJson);
      expect(items !== undefined && !items.includes(undefined)).toBe(parseJson(text) !== undefined);
    }),
    { numRuns: 5_000 },
  );
});

test("of a long array no more than asked for and one is split off", () => {
  expect(splitJsonArray("[1,2,3,4,5]", 2)).toEqual(["1", "2", "3"]);
  expect(splitJsonArray("[1,2,3]", 3)).toEqual(["1", "2", "3"]);
  expect(splitJsonArray('{"a":1}', 3)).toBeUndefined();
});
