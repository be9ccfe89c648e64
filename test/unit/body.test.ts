import { expect, test } from "vitest";
import { maxBodyStructure, parseBody, parseDataBody } from "../../shared/http/body.ts";
import { readClaims } from "../../gateway/sessions/authentication.ts";

test("BND-1: a body is parsed up to its bound of brackets, commas and colons, and no further", () => {
  const zeros = (structure: number): Buffer => Buffer.from(`[0${",0".repeat(structure - 2)}]`);
  expect(parseBody(zeros(maxBodyStructure), maxBodyStructure)).toHaveLength(maxBodyStructure - 1);
  expect(() => parseBody(zeros(maxBodyStructure + 1), maxBodyStructure)).toThrow("brackets, commas and colons");
});

test("BND-1: beside the data a member with more than 16 values is not parsed", () => {
  const body = (values: number): Buffer => Buffer.from(`{"data":[1],"expect":[${"0,".repeat(values - 2)}0]}`);
  expect(parseDataBody(body(16))).toMatchObject({ expect: Array.from({ length: 15 }, () => 0) });
  expect(parseDataBody(body(17))).toMatchObject({ expect: [] });
});

test.each([
  ['{"channel": "board:1"\n "event": "x"}', "error at line 2, column 2"],
  ['{"a":1,}', "error at line 1, column 8"],
  ["{'a':1}", "error at line 1, column 2"],
  ['{"a":[1 2]}', "error at line 1, column 9"],
  ['{"a":\n\n  nul}', "error at line 3, column 3"],
  ['{"é":"😀",x}', "error at line 1, column 10"],
  ['{"a":1} 2', "error at line 1, column 9"],
  ['{"a":1', "it ends too early, at line 1, column 7"],
  ["", "it ends too early, at line 1, column 1"],
])("BODY-3: the error for %j names line and column", (text, where) => {
  const message = `the body is not JSON: ${where}`;
  expect(() => parseBody(Buffer.from(text), maxBodyStructure)).toThrow(message);
  expect(() => parseDataBody(Buffer.from(text))).toThrow(message);
  expect(() => parseDataBody(Buffer.from(`\ufeff${text}`))).toThrow(message);
});

test("BAD-2: claims nested up to 128 levels are read, deeper ones refused", () => {
  const nested = (levels: number): unknown => (levels === 0 ? {} : { deeper: nested(levels - 1) });
  const claims = (levels: number): Record<string, unknown> => ({ sub: "ada", exp: 1, info: nested(levels - 2) });
  expect(readClaims(claims(128), "").kind).toBe("accepted");
  expect(readClaims(claims(129), "")).toMatchObject({ kind: "refused", refusal: { code: "unauthenticated" } });
});
