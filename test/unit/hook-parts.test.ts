/** From the body of a webhook to its parts, and to the values that selectors find in them. */
import { describe, expect, test } from "vitest";
import { contentOf, parseForm } from "../../gateway/hooks/content.ts";
import { parseSelector, select, type SelectedBody } from "../../gateway/hooks/selectors.ts";
import { splitJson } from "../../gateway/hooks/split.ts";
import { parsePointer } from "../../shared/json/json-pointer.ts";

const envelope = {
  headers: { "x-id": "h-1", "set-cookie": ["a", "b"] },
  segments: ["acme", "", "ünï"],
  query: new URLSearchParams("page=7&page=8&empty="),
};

function found(selector: string, body?: SelectedBody): string {
  return select(parseSelector(selector), "key", envelope, body);
}

describe("selectors", () => {
  const json = { json: Buffer.from('{"a":{"b":[true,{"c":12345678901234567890}]},"e":"","n":null,"plain":"x"}') };
  const form = { form: new URLSearchParams("From=%2B1&Body=a+b&a%2Fb=slash") };

  test.each([
    ["header:X-Id", undefined, "h-1"],
    ["path:1", undefined, "acme"],
    ["path:3", undefined, "ünï"],
    ["query:page", undefined, "7"],
    ["body:/a/b/0", json, "true"],
    ["body:/a/b/1/c", json, "12345678901234567890"],
    ["body:plain", json, "x"],
    ["body:/From", form, "+1"],
    ["body:Body", form, "a b"],
    ["body:/a~1b", form, "slash"],
  ] as const)("SRC-4: %s finds its value", (selector, body, value) => {
    expect(found(selector, body)).toBe(value);
  });

  test.each([
    ["header:x-none", undefined],
    ["header:set-cookie", undefined],
    ["path:2", undefined],
    ["path:4", undefined],
    ["query:empty", undefined],
    ["query:none", undefined],
    ["body:/a", json],
    ["body:/e", json],
    ["body:/n", json],
    ["body:/a/b/2", json],
    ["body:/From/x", form],
    ["body:/none", form],
    ["body:/a", undefined],
  ] as const)("SRC-4: %s finds nothing, and the error says so", (selector, body) => {
    expect(() => found(selector, body)).toThrow(`key: ${selector} finds nothing`);
  });
});

describe("split", () => {
  const split = (text: string, ...pointers: string[]): string[] =>
    splitJson(Buffer.from(text), pointers.map(parsePointer)).map((part) => Buffer.from(part).toString());

  test("SRC-5: parts come in order, each with the text that its sender wrote", () => {
    const text = '{"entry":[{"messaging":[ {"a": 1.50} , {"a":1e2,"b":"\\u00e9"}]},{"messaging":["x"]}]}';
    expect(split(text, "/entry", "/messaging")).toEqual(['{"a": 1.50}', '{"a":1e2,"b":"\\u00e9"}', '"x"']);
    expect(split(text, "/entry")).toHaveLength(2);
  });

  test("SRC-5: an entry without the split member gives no parts", () => {
    expect(split('{"entry":[{"changes":[1]},{"messaging":[2]},5]}', "/entry", "/messaging")).toEqual(["2"]);
    expect(split("{}", "/entry", "/messaging")).toEqual([]);
    expect(split('{"entry":[]}', "/entry")).toEqual([]);
  });

  test("SRC-5: a split member that is no array is refused, and so are more than 1,000 parts", () => {
    for (const value of ["{}", '"text"', "5", "null"]) {
      expect(() => split(`{"entry":${value}}`, "/entry")).toThrow("split: /entry is no array");
    }
    const many = (count: number): string => `{"entry":[${Array.from({ length: count }, () => "1").join(",")}]}`;
    expect(split(many(1_000), "/entry")).toHaveLength(1_000);
    expect(() => split(many(1_001), "/entry")).toThrow("more than 1000 parts");
  });
});

describe("content", () => {
  const contentFor = (
    source: { readsBody: boolean; split: readonly unknown[] },
    type: string | undefined,
    body: string | Buffer,
  ): string => contentOf(type === undefined ? {} : { "content-type": type }, Buffer.from(body), source).kind;
  const content = (type: string | undefined, body: string | Buffer, readsBody = false): string =>
    contentFor({ readsBody, split: [] }, type, body);

  test.each([
    ["application/json; charset=utf-8", "[1]", "json"],
    ["application/cloudevents+json", "{}", "json"],
    [undefined, "{}", "json"],
    ["Application/X-WWW-Form-URLEncoded", "a=1", "form"],
    ["text/xml", "<a/>", "text"],
    ["/", "odd", "text"],
    ["image/png", Buffer.from([0x89, 0xff]), "bytes"],
  ])("SRC-6: a body with the content type %s is %s as %s", (type, body, kind) => {
    expect(content(type, body)).toBe(kind);
  });

  test("SRC-6: what selectors read has to be JSON, whatever its content type says", () => {
    expect(content("text/plain", "{}", true)).toBe("json");
    expect(() => content("text/plain", "Hello", true)).toThrow("not JSON");
  });

  test("EDGE-3: a form is refused where the source splits the body", () => {
    const splits = { readsBody: true, split: [["items"]] };
    expect(contentFor(splits, "application/json", "{}")).toBe("json");
    expect(() => contentFor(splits, "application/x-www-form-urlencoded", "items=1")).toThrow("not JSON");
  });

  test.each([
    ["application/json", "", "empty"],
    ["text/plain", "", "empty"],
    ["application/json", "{", "not JSON"],
    [undefined, "Hello", "not JSON"],
    ["application/json", '{"a":01}', "not JSON"],
    ["application/json", "[".repeat(129) + "]".repeat(129), "deeper than 128"],
    ["application/json", Buffer.from([0x22, 0xff, 0x22]), "not UTF-8"],
    ["application/x-www-form-urlencoded", Buffer.from([0x61, 0x3d, 0xff]), "not UTF-8"],
  ])("EDGE-3: %s %s is refused as %s", (type, body, reason) => {
    expect(() => content(type, body)).toThrow(reason);
  });

  test("EDGE-3: an object with 10,000 members passes, one more is refused", () => {
    const object = (members: number): string => `{${Array.from({ length: members }, (_, i) => `"${i}":0`).join(",")}}`;
    expect(content("application/json", object(10_000))).toBe("json");
    expect(() => content("application/json", object(10_001))).toThrow("more than 10000 members");
  });

  test("EDGE-5: a content type that cannot stand in a header goes on as text/plain", () => {
    const typeOf = (type: string): unknown =>
      contentOf({ "content-type": type }, Buffer.from("x"), { readsBody: false, split: [] });
    expect(typeOf("text/csv; header=present")).toMatchObject({ contentType: "text/csv; header=present" });
    for (const type of ["text/csv; a=\u00e9", `text/${"x".repeat(300)}`]) {
      expect(typeOf(type)).toMatchObject({ contentType: "text/plain" });
    }
  });

  test("EDGE-3: a form with more than 1,000 fields is refused before it is parsed", () => {
    expect([...parseForm(Buffer.from("a=1&".repeat(999))).keys()]).toHaveLength(999);
    expect(() => parseForm(Buffer.from("&".repeat(1_000)))).toThrow("more than 1000 fields");
  });
});
