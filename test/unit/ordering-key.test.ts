/** The ordering key of a queued event. */
import { expect, test } from "vitest";
import { orderingKey } from "../../shared/queues/ordering-key.ts";

test.each([
  ['{"a":"x"}', "/a", "x"],
  ['{"a":{"b":["c",{"d":7}]}}', "/a/b/1/d", "7"],
  ['{"a/b":1,"c~d":2}', "/a~1b", "1"],
  ['{"a/b":1,"c~d":2}', "/c~0d", "2"],
  ['{"ключ":"да"}', "/ключ", "да"],
  ['{"a":1,"a":2}', "/a", "2"],
  ['{"":{"":"deep"}}', "//", "deep"],
  [' { "a" : 5 } ', "/a", "5"],
])("ENQ-4: the key in %s at %s is %s", (data, pointer, key) => {
  expect(orderingKey(data, pointer)).toBe(key);
});

test.each([
  ["9007199254740993", "9007199254740993"],
  ["-0", "0"],
  ["-12", "-12"],
  ["1.50", "1.5"],
  ["1e3", "1000"],
  ["1e21", "1000000000000000000000"],
  ["1E+2", "100"],
  ["12.50e1", "125"],
  ["100e-2", "1"],
  ["1e-7", "0.0000001"],
  ["-2.5e-9", "-0.0000000025"],
  ["0.00e5", "0"],
  ["-0.0", "0"],
  ["12345678901234567890.0", "12345678901234567890"],
  ["123456789.123456789012", "123456789.123456789012"],
  ["true", "true"],
  ["false", "false"],
  ['""', ""],
])("ENQ-4: the value %s becomes the key %s", (value, key) => {
  expect(orderingKey(`{"k":${value}}`, "/k")).toBe(key);
});

test.each([
  ["{}", "/k"],
  ['{"k":null}', "/k"],
  ['{"k":{}}', "/k"],
  ['{"k":[]}', "/k"],
  ["[1]", "/1"],
  ["[1]", "/01"],
  ["[1]", "/-"],
  ['"text"', "/k"],
  ["null", "/k"],
  ['{"k":1e999}', "/k"],
  ['{"k":1e-999999999999}', "/k"],
  [`{"k":"${"é".repeat(129)}"}`, "/k"],
  ['{"k":"\\ud800"}', "/k"],
  ['{"__proto__":1}', "/constructor"],
])("ENQ-4: %s has no key at %s", (data, pointer) => {
  expect(() => orderingKey(data, pointer)).toThrow(/^data\//);
});
