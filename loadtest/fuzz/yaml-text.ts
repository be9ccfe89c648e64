/** Generates the text of documents as YAML, with most of its features. */
import type { Dice } from "./dice.ts";
import { brokenText, largeText, mutatedParts, shortString, smallText } from "./json-text.ts";
import type { Part } from "./parts.ts";
import { largeRules, rules } from "./rules-text.ts";

const largest = 50_000;

export function yaml(dice: Dice): Part[] {
  return dice.weighted<Part[]>([
    [3, () => rules(dice)],
    [1, () => brokenText(dice, largest)],
    [3, () => [dice.list(dice.between(1, 12), () => yamlLine(dice)).join("\n")]],
    [1, () => mutatedParts(dice, [dice.list(6, () => yamlLine(dice)).join("\n")])],
    [0.1, () => largeYaml(dice, dice.magnitude(100, largest))],
  ]);
}

const yamlLines = [
  ...[
    "a: &x {b: 1}",
    "c: *x",
    "<<: *x",
    "<<: [*x, *x]",
    "d: &x [*x]",
    "? {a: b}\n: c",
    "? - a\n: - b",
    "- a",
    "  - b",
    "--- ",
    "...",
    "%YAML 1.2",
  ],
  ...[
    "a: !!binary R0lGOD",
    "b: !!set {a, b}",
    "c: !!omap [a: 1]",
    "d: !!float .inf",
    "e: !<tag:x> 1",
    "f: !!js/function a",
    "g: 0o17",
    "h: 0x1F",
    "i: ~",
  ],
  ...[
    "s: |\n  text\n   more",
    "s: >-\n  text",
    "s: |9\n x",
    'q: "\\x41\\u263A\\',
    "q: 'it''s'",
    "\tt: 1",
    "# comment",
    "k: # comment",
    "a: b: c",
    "[a, b]: c",
  ],
  ...[
    "namespaces: {a: {historySize: 5}}",
    "namespaces:\n  a: {presence: yes}",
    "services: {s: {url: 'http://a'}}",
    "__proto__: {a: 1}",
    "constructor: {a: 1}",
    "a: 2001-12-14t21:59:43.10-05:00",
  ],
] as const;

function yamlLine(dice: Dice): string {
  return dice.chance(0.8) ? dice.pick(yamlLines) : `${shortString(dice)}: ${smallText(dice)}`;
}

/** A large document, to measure its cost. */
export function largeYaml(dice: Dice, bytes: number): Part[] {
  const times = (each: number): number => Math.max(1, Math.floor(bytes / each));
  return dice.weighted<Part[]>([
    [2, () => [{ count: "k#: 0\n", times: times(10) }]],
    [1, () => ["namespaces:\n", { count: "  n#: {access: user}\n", times: times(24) }]],
    [1, () => ["{", { count: "k#: 0, ", times: times(12) }, "z: 0}"]],
    [1, () => ["routes:\n", { count: "  - {event: e#, service: s, path: /, mode: call}\n", times: times(50) }]],
    [1, () => ["routes:\n", { repeat: "  - {}\n", times: times(7) }]],
    [2, () => [{ repeat: dice.pick(["[", "{a: ", "- ", "? ", "a:\n ", "  "]), times: times(4) }]],
    [
      1,
      () => [
        { repeat: "[", times: times(2) },
        { repeat: "]", times: times(2) },
      ],
    ],
    [2, () => ["a: &a [0,0,0,0,0,0,0,0,0]\n", { count: "b#: *a\n", times: times(12) }]],
    [
      1,
      () => ["a0: &a0 [x]\n", ...dice.list(20, (i): Part => `a${i + 1}: &a${i + 1} [*a${i},*a${i},*a${i},*a${i}]\n`)],
    ],
    [1, () => ["a: &a {x: 1}\nb:\n", { repeat: "  <<: *a\n", times: times(10) }]],
    [1, () => [{ count: "&a# ", times: times(8) }]],
    [
      1,
      () => [
        {
          repeat: dice.pick([
            "!",
            "!!a ",
            "|",
            ">",
            "'",
            '"',
            "#",
            "\t",
            "*a ",
            ",",
            ":",
            "---\n",
            "...\n",
            "%a\n",
            "\n",
            "- \n",
            "? \n",
            "é",
          ]),
          times: times(3),
        },
      ],
    ],
    [1, () => ['a: "', { repeat: dice.pick(["\\u263A", "\\\n", "x", "\n", " \n"]), times: times(5) }, '"']],
    [1, () => ["a: |\n", { repeat: "  x\n", times: times(4) }]],
    [1, () => largeText(dice, bytes)],
    [1, () => largeRules(dice, bytes)],
  ]);
}
