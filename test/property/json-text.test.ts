import fc from "fast-check";
import { expect, test } from "vitest";
import { scanItems } from "../../shared/json/json-members.ts";
import { scanJson } from "../../shared/json/json-scan.ts";
import { compactJson } from "../../shared/json/json-text.ts";

const space = fc.constantFrom("", "", " ", "\n", "\r\n\t");
const number = fc.constantFrom("0", "-0", "1e999", "-1E-7", "9007199254740993", "1.50", "0.1234567890123456789");
const escape = fc.constantFrom(
  "\\u00e9",
  "\\uD83D\\ude80",
  "\\ud800",
  "\\udc00\\ud800",
  "\\/",
  "\\\\",
  '\\"',
  "\\u0022",
  "\\u005C",
);
const piece = fc.oneof(
  escape,
  fc.constantFrom("\\n", "\\u0000", "a", " ", "é", "🚀", "{", ",", "u00e9", "\u007f", "\u2028"),
);
const string = fc.array(piece, { maxLength: 8 }).map((pieces) => `"${pieces.join("")}"`);
/** JSON with any white space, any spelling, and repeated members. */
const { json } = fc.letrec<{ json: string; items: string }>((tie) => ({
  items: fc
    .array(
      fc.tuple(space, tie("json"), space).map((parts) => parts.join("")),
      { maxLength: 4 },
    )
    .map((items) => {
      return `[${items.join(",")}]`;
    }),
  json: fc.oneof(
    { maxDepth: 4 },
    number,
    string,
    fc.constantFrom("true", "false", "null", "[]", "{ }"),
    tie("items"),
    fc
      .array(fc.tuple(space, string, space, tie("json"), space), { maxLength: 4 })
      .map((members) => `{${members.map(([a, name, b, value, c]) => `${a}${name}${b}:${b}${value}${c}`).join(",")}}`),
  ),
}));

const runs = { numRuns: 5_000 };

test("TEXT-3: the forwarded text is the original without white space between values", () => {
  fc.assert(
    fc.property(json, (text) => {
      const { text: passed, bytes } = compactJson(Buffer.from(text), Infinity);
      // Matches strings, and other tokens without white space.
      const expected = text.replaceAll(/("(?:[^"\\]|\\.)*")|\s+/g, (_all, literal?: string) => literal ?? "");
      expect(passed).toBe(expected);
      expect(bytes).toBe(Buffer.byteLength(passed));
      expect(compactJson(Buffer.from(passed), Infinity).text).toBe(passed);
    }),
    runs,
  );
});

test("TEXT-4: past the bound escapes become characters and nothing else changes", () => {
  fc.assert(
    fc.property(json, (text) => {
      const kept = compactJson(Buffer.from(text), Infinity).text;
      const { text: short, bytes } = compactJson(Buffer.from(text), 0);
      expect(bytes).toBe(Buffer.byteLength(short));
      expect({ ...scanJson(short), errorAt: 0 }).toEqual({ ...scanJson(kept), errorAt: 0 });
      // One by one: V8 may read the name "a\"" as "a\\" if it has read that one before.
      const strings = /"(?:[^"\\]|\\.)*"/g;
      const values = (kept.match(strings) ?? []).map((literal) => JSON.parse(literal) as string);
      expect((short.match(strings) ?? []).map((literal) => literal.toLowerCase())).toEqual(
        values.map((value) => JSON.stringify(value).toLowerCase()),
      );
      expect(short.replaceAll(strings, '""')).toBe(kept.replaceAll(strings, '""'));
      expect(compactJson(Buffer.from(text), Buffer.byteLength(kept)).text).toBe(kept);
    }),
    runs,
  );
});

test("items of an array are split and counted as JSON.parse reads them", () => {
  const array = fc.tuple(space, fc.array(json, { maxLength: 5 }), space);
  fc.assert(
    fc.property(array, fc.nat({ max: 6 }), ([before, items, after], max) => {
      const json = Buffer.from(`${before}[${items.join(`${after},${before}`)}${after}]${after}`);
      const scan = scanItems(json, max);
      const values = items.map((item) => (scanJson(item) as { values: number }).values);
      const texts = scan.kind === "items" && scan.items.map((item) => Buffer.from(item).toString());
      expect({ ...scan, items: texts }).toEqual({
        kind: "items",
        items: items.slice(0, max).map((item) => item.trim()),
        values: values.reduce((sum, own) => sum + own, 0),
      });
    }),
    { numRuns: 2_000 },
  );
  const bad = ["", "[", "]", "1", "{}", "[1", "[1,]", "[,1]", "[1]1", "[1 2]", "[1}", "[01]", "[[]"];
  for (const text of bad) expect(scanItems(Buffer.from(text), 9), text).toEqual({ kind: "malformed" });
  const nested = (levels: number): Buffer => Buffer.from(`[0,${"[".repeat(levels)}${"]".repeat(levels)}]`);
  expect(scanItems(nested(128), 9).kind).toBe("items");
  expect(scanItems(nested(129), 9)).toEqual({ kind: "too_deep", items: [Buffer.from("0")] });
});
