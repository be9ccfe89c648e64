import fc from "fast-check";
import { expect, test } from "vitest";
import { isTooDeep, measureJson } from "../../shared/json.ts";

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

test("a text that is no JSON is measured, too", () => {
  expect(measureJson('[[["]]]')).toEqual({ depth: 3, structure: 3 });
  expect(measureJson("]]]{")).toEqual({ depth: 0, structure: 4 });
  expect(measureJson('"\\')).toEqual({ depth: 0, structure: 0 });
});
