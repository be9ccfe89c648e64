import fc from "fast-check";
import { expect, test } from "vitest";
import { isTooDeep, parseJson, splitJsonArray } from "../../shared/json/json.ts";
import { scanJson } from "../../shared/json/json-scan.ts";

const anyJson = fc.jsonValue({ depthSize: "large", maxDepth: 12 });

test("a scan measures the depth of the value", () => {
  fc.assert(
    fc.property(anyJson, fc.constantFrom(undefined, 1), (value, indent) => {
      const { depth } = scanJson(JSON.stringify(value, undefined, indent));
      expect(isTooDeep(value, depth)).toBe(false);
      if (depth > 0) expect(isTooDeep(value, depth - 1)).toBe(true);
    }),
  );
});

test("a scan counts what remains of a text without its scalars and white space", () => {
  fc.assert(
    fc.property(anyJson, (value) => {
      const text = JSON.stringify(value);
      const bare = text.replaceAll(/"(?:[^"\\]|\\.)*"|[\w.+-]+/g, "");
      expect(scanJson(text).structure).toBe(bare.length);
      expect(scanJson(JSON.stringify(value, undefined, 2)).structure).toBe(bare.length);
    }),
  );
});

test("a scan counts the members of the widest object", () => {
  const widestOf = (value: unknown): number => {
    if (typeof value !== "object" || value === null) return 0;
    const own = Array.isArray(value) ? 0 : Object.keys(value).length;
    return Math.max(own, ...Object.values(value).map(widestOf));
  };
  fc.assert(
    fc.property(anyJson, (value) => {
      const read: unknown = JSON.parse(JSON.stringify(value));
      expect(scanJson(JSON.stringify(value)).widest).toBe(widestOf(read));
    }),
  );
});

test("malformed text is measured up to its first error", () => {
  expect(scanJson('[[["]]]')).toMatchObject({ kind: "malformed", depth: 3, widest: 0 });
  expect(scanJson('{"a":1,"b":]}')).toMatchObject({ kind: "malformed", depth: 1, structure: 5, widest: 2 });
  expect(scanJson("]]]{")).toMatchObject({ kind: "malformed", depth: 0, structure: 0 });
  expect(scanJson('"\\')).toMatchObject({ kind: "malformed", depth: 0, structure: 0 });
});

test("an array splits into the texts of its items", () => {
  fc.assert(
    fc.property(fc.array(anyJson), fc.constantFrom(undefined, 1), (items, indent) => {
      const texts = splitJsonArray(JSON.stringify(items, undefined, indent), items.length);
      expect(texts?.map(parseJson)).toEqual(JSON.parse(JSON.stringify(items)));
    }),
  );
});

test("a text is JSON exactly where its items are JSON", () => {
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

test("of a long array one item more than the bound is split off", () => {
  expect(splitJsonArray("[1,2,3,4,5]", 2)).toEqual(["1", "2", "3"]);
  expect(splitJsonArray("[1,2,3]", 3)).toEqual(["1", "2", "3"]);
  expect(splitJsonArray('{"a":1}', 3)).toBeUndefined();
});
