import fc from "fast-check";
import { expect, test } from "vitest";
import { parseJson } from "../../shared/json/json.ts";

const digits = (most: number): fc.Arbitrary<string> => fc.stringMatching(new RegExp(`^[1-9][0-9]{0,${most}}$`));
const number = fc.oneof(
  fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => JSON.stringify(value)),
  digits(25),
  fc.tuple(digits(20), fc.constantFrom("e", "E", "e+", "e-"), fc.nat({ max: 420 })).map((parts) => parts.join("")),
  fc.tuple(fc.constantFrom("0", "12"), digits(25)).map(([whole, fraction]) => `${whole}.${fraction}`),
  fc.constantFrom(
    "0",
    "-0",
    "9007199254740991",
    "9007199254740992",
    "9007199254740993",
    "-1e999",
    "1e-999",
    "0.0e9999",
  ),
);

/** The value of a number: integers by their digits, everything else as a double. */
function worth(text: string): string {
  return /^-?\d+$/.test(text) ? String(BigInt(text)) : String(Number(text));
}

test("TEXT-7: a number that a double cannot represent is written as it was read", () => {
  fc.assert(
    fc.property(number, (source) => {
      const [read] = parseJson(`[${source}]`) as [unknown];
      const written = JSON.stringify(read);
      expect(worth(written)).toBe(worth(source));
      expect(typeof read === "number" ? Number.isFinite(read) : written === source).toBe(true);
      if (Number.isSafeInteger(Number(source)) && Number(source) !== 0) expect(read).toBe(Number(source));
    }),
    { numRuns: 20_000 },
  );
});

test("TEXT-7: numbers are kept at any depth, and strings that look like numbers stay strings", () => {
  const text =
    '{"a":[1,-1e999,"1e999",{"9007199254740993":9007199254740993}],"b":",12345678901234567 1e999","c":1712345678.123456}';
  expect(JSON.stringify(parseJson(text))).toBe(text);
  expect(parseJson('["1e999,12345678901234567"]')).toEqual(["1e999,12345678901234567"]);
  expect(parseJson("[1e999")).toBeUndefined();
});
