import fc from "fast-check";
import { parse } from "yaml";
import { describe, expect, test } from "vitest";
import { isTooDeep, parseJson } from "../../shared/json/json.ts";
import { takeMembers } from "../../shared/json/json-members.ts";
import { scanJson } from "../../shared/json/json-scan.ts";
import { machineSlowness } from "../support/cpu-time.ts";

const valid = fc
  .tuple(fc.jsonValue({ maxDepth: 8 }), fc.constantFrom("", " ", "\t"))
  .map(([value, indent]) => JSON.stringify(value, undefined, indent));
/** Pieces of JSON in any order: mostly malformed, always close to JSON. */
const nearlyJson = fc
  .array(
    fc.constantFrom(
      ...'{}[]:,"\\'.split(""),
      ...["0", "-", "12", ".5", "e+1", "E", "1e20", "01", "-0", "true", "false", "null", "tru", "nulls", "Infinity"],
      ...['"a"', '"\\n"', '"\\u00e9"', '"\\u12g4"', '"\\x"', '"é😀"', '"\u2028"', '"\u0000"', '"a\nb"', "'"],
      ...[" ", "\n", "\r", "\t", "\f", "\u00a0", "\ufeff", "\u0000"],
    ),
    { maxLength: 12 },
  )
  .map((pieces) => pieces.join(""));
const mutated = fc.tuple(valid, fc.nat(), fc.nat({ max: 3 }), nearlyJson).map(([text, at, cut, piece]) => {
  const from = at % (text.length + 1);
  return text.slice(0, from) + piece + text.slice(from + cut);
});

function depthOf(value: unknown): number {
  let depth = 0;
  while (isTooDeep(value, depth)) depth++;
  return depth;
}

describe("a scan accepts exactly what JSON.parse accepts, and measures its depth", () => {
  test.each([
    ["valid text", valid, 2_000],
    ["pieces of JSON in any order", nearlyJson, 50_000],
    ["valid text with a mutation", mutated, 20_000],
  ])("%s", (_name, texts, numRuns) => {
    fc.assert(
      fc.property(texts, (text) => {
        const value = parseJson(text);
        const scan = scanJson(text);
        expect(scan.kind).toBe(value === undefined ? "malformed" : "json");
        if (scan.kind !== "json") return;
        // Of members with one name JSON.parse keeps the last one, and the scan measures all.
        if (texts === valid) expect(scan.depth).toBe(depthOf(value));
        else expect(scan.depth).toBeGreaterThanOrEqual(depthOf(value));
      }),
      { numRuns },
    );
  });
});

test("a scan counts every value, scalars and containers", () => {
  expect(scanJson('{"a":[1,[],{}],"b":"x"}')).toMatchObject({ kind: "json", depth: 3, values: 6 });
  expect(scanJson("null")).toMatchObject({ kind: "json", depth: 0, values: 1 });
});

test("a scan stops at the first level that is too deep", () => {
  const nested = (levels: number): string => "[".repeat(levels) + "]".repeat(levels);
  expect(scanJson(nested(128))).toMatchObject({ kind: "json", depth: 128, values: 128 });
  expect(scanJson(nested(129)).kind).toBe("too_deep");
  expect(scanJson(`[{"a":${nested(126)}}]`)).toMatchObject({ kind: "json", depth: 128 });
  expect(scanJson(`[{"a":${nested(127)}}]`).kind).toBe("too_deep");
});

test("a scan of 1 MiB of any shape takes less than 100 ms of CPU", () => {
  const filled = (unit: string): string => `[${unit.repeat(Math.floor((2 ** 20 - 3) / unit.length))}0]`;
  const shapes = [
    "[],",
    "{},",
    "0,",
    "1e20,",
    '"\\u00e9",',
    "\n0,",
    '{"":0},',
    `${"[".repeat(127)}${"]".repeat(127)},`,
  ];
  const allowedMs = 100 * machineSlowness();
  for (const shape of shapes) {
    const text = filled(shape);
    // The least of them: what else a busy machine does at that moment adds to the time of the same work.
    const took = Array.from({ length: 3 }, () => {
      const before = process.threadCpuUsage();
      expect(scanJson(text).kind).toBe("json");
      const { user, system } = process.threadCpuUsage(before);
      return (user + system) / 1_000;
    });
    expect(Math.min(...took)).toBeLessThan(allowedMs);
  }
});

test("members taken out of an object, and the rest of it, are what was written", () => {
  const names = {
    '"code"': "code",
    '"message"': "message",
    '"c\\u006fde"': "code",
    '"\\u0063\\u006f\\u0064\\u0065"': "code",
    '"a"': "a",
    '"codes"': "codes",
    '""': "",
    '"\\""': '"',
  };
  const space = fc.constantFrom("", " ", "\n ");
  const member = fc.tuple(space, fc.constantFrom(...Object.entries(names)), space, fc.jsonValue({ maxDepth: 3 }));
  fc.assert(
    fc.property(fc.array(member, { maxLength: 6 }), space, (members, around) => {
      const texts = members.map(([before, [name], between, value]) => {
        return `${before}${name}${between}:${before}${JSON.stringify(value)}${between}`;
      });
      const text = `${around}{${texts.join()}${members.length === 0 ? around : ""}}${around}`;
      const whole = new Map(members.map(([, [, name], , value]) => [name, value]));
      const { taken, rest } = takeMembers(Buffer.from(text), ["code", "message"]) ?? {
        taken: new Map<string, string>(),
      };
      for (const name of ["code", "message"]) {
        const own = taken.get(name);
        expect(own === undefined ? undefined : parseYaml(own)).toEqual(plain(whole.get(name)));
        whole.delete(name);
      }
      expect(new Map(Object.entries(parseYaml(rest ?? "{}") as object))).toEqual(new Map(plain([...whole])));
      expect(rest === undefined).toBe(whole.size === 0);
    }),
    { numRuns: 2_000 },
  );
  expect(takeMembers(Buffer.from("[1]"), ["code"])).toBeUndefined();
});

/** JSON is YAML, too. V8's own parser may return another member's name where names are escaped. */
function parseYaml(json: string): unknown {
  return parse(json, { uniqueKeys: false });
}

/** As it is after a way through JSON: without negative zeros. */
function plain<Value>(value: Value): Value {
  return value === undefined ? value : (parseYaml(JSON.stringify(value)) as Value);
}
