/** Generates JSON texts, valid and broken. */
import type { Dice } from "./dice.ts";
import type { Part, Parts } from "./parts.ts";

/** Names with a meaning in JavaScript, Socket.IO or JSON Schema. */
export const specialNames = [
  ...["__proto__", "constructor", "prototype", "toString", "valueOf", "hasOwnProperty", "length", "then", "toJSON"],
  ...["", "0", "-1", "$ref", "_placeholder", "__defineGetter__", "get", "name", "message", "stack", "type", "data"],
] as const;

const scalars = [
  ...["null", "true", "false", "0", "-0", "1", "-1", "0.1", "1e20", "1e308", "1e999", "-1e999", "5e-324"],
  ...[
    "9007199254740993",
    "18446744073709551616",
    "2147483648",
    "-2147483649",
    "1e-7",
    "123456789012345678901234567890",
  ],
  ...['""', '"a"', '"\\u0000"', '"\\ud800"', '"\\udfff\\ud800"', '"\u2028"', '"é"', '"😀"', '"\\\\"', '"\\n\\t\\b"'],
  ...['"__proto__"', '"constructor"', '"9999-12-31"', '"javascript:0"', "[]", "{}", "[[]]", "[null]", '{"":{}}'],
  ...[
    '{"__proto__":{"polluted":true}}',
    '{"constructor":{"prototype":{"polluted":true}}}',
    '{"toJSON":1}',
    '{"then":1}',
  ],
  ...['{"_placeholder":true,"num":0}', '{"_placeholder":true,"num":1e9}', '{"_placeholder":true,"num":"0"}'],
  ...['{"length":-1}', '{"length":4294967296}', '{"type":"Buffer","data":[1,2,3]}'],
] as const;

/** Texts that every JSON parser rejects. */
const broken = [
  ...["", "undefined", "NaN", "Infinity", "-", "01", "1.", ".5", "+1", "0x10", "'a'", '"', '"\\x41"', '"\\u12"', "tru"],
  ...[
    "[1,]",
    "{,}",
    '{"a"}',
    "{a:1}",
    "[",
    "]",
    "{",
    "}",
    "[[[",
    "}}}",
    '"\u0001"',
    "//",
    "[1 2]",
    "\ufeff1",
    "1\u0000",
  ],
] as const;

export function scalarText(dice: Dice): string {
  return dice.chance(0.3) ? String(dice.between(-10, 1_000)) : dice.pick(scalars);
}

export function shortString(dice: Dice): string {
  return dice.chance(0.3) ? dice.pick(specialNames) : `s${dice.between(0, 99)}`;
}

/** A small value. */
export function smallText(dice: Dice, depth = 3): string {
  if (depth === 0 || dice.chance(0.6)) return scalarText(dice);
  const items = dice.list(dice.between(0, 4), () => smallText(dice, depth - 1));
  if (dice.chance(0.5)) return `[${items.join(",")}]`;
  return `{${items.map((item) => `${JSON.stringify(shortString(dice))}:${item}`).join(",")}}`;
}

const stringTexts = [
  ...[
    "x",
    "é",
    "😀",
    "\\u0000",
    "\\ud800",
    "\\u0041",
    "\\u00e9",
    "\\ud83d\\ude00",
    '\\"',
    "\\\\",
    "\\/",
    "\\n",
    "a.b-",
    "/",
  ],
] as const;

/** A value of about so many bytes that is expensive to parse, walk or write. */
export function largeText(dice: Dice, bytes: number): Part[] {
  const repeat = (open: string, text: string, close: string): Part[] => [
    open,
    { repeat: text, times: Math.floor(bytes / text.length) },
    close,
  ];
  const count = (open: string, text: string, close: string): Part[] => [
    open,
    // The number takes about five digits.
    { count: text, times: Math.floor(bytes / (text.length + 4)) },
    close,
  ];
  const nested = (open: string, middle: string, close: string): Part[] => {
    const times = Math.floor(bytes / (open.length + close.length));
    return [{ repeat: open, times }, middle, { repeat: close, times }];
  };
  return dice.weighted<Part[]>([
    [2, () => repeat("[", `${scalarText(dice)},`, "0]")],
    [1, () => repeat("[", "0,", "0]")],
    [1, () => repeat("[", "{},", "0]")],
    [1, () => repeat("[", '"",', "0]")],
    [1, () => repeat("[", "1e20,", "0]")],
    [2, () => count("{", `"k#":${scalarText(dice)},`, '"z":0}')],
    [1, () => count("{", '"#":0,', '"z":0}')],
    [1, () => count("[", '{"a#":#},', "0]")],
    [2, () => nested("[", "0", "]")],
    [2, () => nested('{"a":', "0", "}")],
    [1, () => nested('[{"a":', "0", "}]")],
    [2, () => repeat('"', dice.pick(stringTexts), '"')],
    [1, () => repeat("1", "0", "")],
    [1, () => repeat("0.", "9", "e-9")],
    [1, () => repeat("1e", "9", "")],
    [1, () => repeat("{", '"a":0,', '"a":1}')],
    [1, () => repeat("[", '{"_placeholder":true,"num":0},', "0]")],
    [1, () => repeat("", " ", "0")],
  ]);
}

/** A mostly small value. @param largest in bytes */
export function jsonText(dice: Dice, largest: number, largeShare = 0.01): Part[] {
  return dice.chance(largeShare) ? largeText(dice, dice.magnitude(100, largest)) : [smallText(dice)];
}

/** Broken JSON. */
export function brokenText(dice: Dice, largest: number): Part[] {
  return dice.weighted<Part[]>([
    [6, () => [dice.pick(broken)]],
    [3, () => mutatedParts(dice, jsonText(dice, largest, 0.1))],
    [1, () => [{ repeat: dice.pick(["[", "}", "]", '{"a":', '"', "[[", ","]), times: dice.magnitude(1, largest) }]],
  ]);
}

const inserts = [
  ...["\u0000", '"', "[", "]", "{", "}", ",", ":", "-", "/", "\\", "0", "9", "e", "\n", "\r\n", " ", "😀", "\ufeff"],
  ...["\u001e", "%", "#", "*", "__proto__", "_placeholder", "null", "1e999", "\ud800"],
] as const;

/** Changes a few characters. */
export function mutatedText(dice: Dice, text: string): string {
  let mutated = text;
  for (let left = dice.between(1, 3); left > 0; left--) {
    const at = dice.between(0, mutated.length);
    const until = Math.min(mutated.length, at + dice.magnitude(1, 20));
    mutated = dice.weighted<string>([
      [3, () => mutated.slice(0, at) + dice.pick(inserts) + mutated.slice(at)],
      [3, () => mutated.slice(0, at) + mutated.slice(until)],
      [2, () => mutated.slice(0, at) + dice.pick(inserts) + mutated.slice(at + 1)],
      [1, () => mutated.slice(0, at)],
      [1, () => mutated.slice(0, until) + mutated.slice(at)],
    ]);
  }
  return mutated;
}

/** Changes one of the literal parts. */
export function mutatedParts(dice: Dice, parts: Parts): Part[] {
  const at = dice.between(0, Math.max(0, parts.length - 1));
  return parts.map((part, index) => (index === at && typeof part === "string" ? mutatedText(dice, part) : part));
}

/** An object with these members; some are dropped, replaced or repeated, and others are added. */
export function objectText(dice: Dice, members: Readonly<Record<string, Parts>>, largest: number): Part[] {
  const texts: Part[] = ["{"];
  const add = (name: string, value: Parts): void => {
    texts.push(`${texts.length > 1 ? "," : ""}${JSON.stringify(name)}:`, ...value);
  };
  for (const [name, value] of Object.entries(members)) {
    if (dice.chance(0.08)) continue;
    add(name, dice.chance(0.15) ? jsonText(dice, largest, 0.05) : value);
    if (dice.chance(0.02)) add(name, jsonText(dice, largest));
  }
  if (dice.chance(0.08)) add(shortString(dice), jsonText(dice, largest, 0.05));
  if (dice.chance(0.005)) {
    texts.push(texts.length > 1 ? "," : "", { count: '"x#":0,', times: dice.magnitude(1, largest / 10) }, '"z":0');
  }
  texts.push("}");
  return texts;
}
