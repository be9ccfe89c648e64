/** Rules and rollouts documents, as JSON and as YAML with everything that YAML has. */
import type { Dice } from "./dice.ts";
import type { Conversation, RequestStep, Step } from "./input.ts";
import { brokenText, jsonText, largeText, mutatedParts, objectText, shortString, smallText } from "./json-text.ts";
import type { Part, Parts } from "./parts.ts";
import { bearer } from "./private-door.ts";
import { type Header, mutatedSteps } from "./requests.ts";

const largest = 50_000;
const secret = '"whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="';

export function documentConversation(dice: Dice): Conversation {
  const steps = dice.list(dice.magnitude(1, 8), () => documentSteps(dice)).flat();
  return {
    kind: "conversation",
    door: "private",
    opening: "bare",
    steps,
    ...(dice.chance(0.05) && { segmentBytes: dice.magnitude(100, 1_460) }),
    ending: dice.chance(0.9) ? "answered" : dice.pick(["reset", "half-close"]),
  };
}

/** One document, for what it costs, with a token or without. */
export function costlyDocument(dice: Dice): Conversation {
  // YAML takes its time, in a process of its own.
  const isYaml = dice.chance(0.4);
  const bytes = dice.magnitude(2_000, isYaml ? 200_000 : 1_000_000);
  const body = isYaml ? largeYaml(dice, bytes) : largeRules(dice, bytes);
  const headers: Header[] = [
    ["content-type", [isYaml ? "application/yaml" : "application/json"]],
    ...(dice.chance(0.7) ? [...bearer("rulesToken"), neverMatches] : []),
  ];
  const target = [dice.pick(["/v1/rules", "/v1/rollouts"])];
  const request: RequestStep = { method: "PUT", target, headers, body };
  return { kind: "conversation", door: "private", opening: "bare", steps: [{ request }], ending: "answered" };
}

/** The document is checked, and not stored. */
const neverMatches: Header = ["if-match", ['"999999999"']];

function documentSteps(dice: Dice): Step[] {
  const name = dice.pick(["rules", "rules", "rollouts"]);
  const target = [`/v1/${name}`];
  const headers = (type: string): Header[] => [["content-type", [type]], ...bearer("rulesToken")];
  if (name === "rollouts" && dice.chance(0.5)) {
    return [{ request: { method: "PUT", target, headers: headers("application/json"), body: rollouts(dice) } }];
  }
  // The rules that the honest client lives by, and more: these may come into force.
  if (name === "rules" && dice.chance(0.1)) {
    const body = extendedRules(dice);
    return [{ request: { method: "PUT", target, headers: headers("application/json"), body } }];
  }
  const request = dice.weighted<RequestStep>([
    [3, () => ({ method: "PUT", target, headers: headers("application/json"), body: rules(dice) })],
    [
      3,
      () => ({
        method: "PUT",
        target,
        headers: headers(dice.pick(["application/yaml", "text/yaml"])),
        body: yaml(dice),
      }),
    ],
    [1, () => ({ method: "GET", target, headers: headers("application/json") })],
  ]);
  return mutatedSteps(dice, request).map((step) => ("request" in step ? { request: notStored(step.request) } : step));
}

function notStored(request: RequestStep): RequestStep {
  return { ...request, headers: [...request.headers.filter(([header]) => header !== "if-match"), neverMatches] };
}

/** Members that do not touch those of the honest client. */
function extendedRules(dice: Dice): Part[] {
  const times = dice.magnitude(1, 300);
  return [
    ...[
      '{"namespaces":{',
      { live: "namespaces" as const },
      { count: ',"n#":{"historySize":5,"slow":"latest"}', times: dice.magnitude(1, 50) },
    ],
    ...[
      '},"services":{',
      { live: "services" as const },
      { count: `,"s#":{"url":"http://127.0.0.1:1/#","secret":${secret}}`, times: dice.magnitude(1, 50) },
    ],
    ...[
      '},"routes":[',
      { live: "routes" as const },
      { count: ',{"event":"x#.*","service":"s0","path":"/{event}","mode":"call"}', times },
    ],
    ...[`],"hooks":{"connect":"hooks","subscribe":"hooks"}}`],
  ];
}

function rules(dice: Dice): Part[] {
  const document = objectText(
    dice,
    {
      namespaces: objectText(dice, { [name(dice)]: namespace(dice), a: namespace(dice) }, largest),
      services: objectText(dice, { s: service(dice), [name(dice)]: service(dice) }, largest),
      routes: ["[", ...joined(dice.list(dice.between(0, 5), () => route(dice))), "]"],
      hooks: objectText(dice, { connect: ['"s"'], subscribe: ['"s"'] }, largest),
      ...(dice.chance(0.1) && { version: [smallText(dice, 1)] }),
      ...(dice.chance(0.1) && { sources: jsonText(dice, largest, 0.1) }),
    },
    largest,
  );
  return dice.chance(0.1) ? mutatedParts(dice, document) : document;
}

function namespace(dice: Dice): Part[] {
  return objectText(
    dice,
    {
      access: [dice.pick(['"token"', '"user"'])],
      historySize: [dice.pick(["0", "100", "100000", "100001", "-1", "1.5"])],
      historySeconds: [dice.pick(["1", "300", "2592001"])],
      presence: ["true"],
      slow: [dice.pick(['"latest"', '"disconnect"'])],
    },
    largest,
  );
}

function service(dice: Dice): Part[] {
  const urls = [
    '"http://127.0.0.1:1"',
    '"http://"',
    '"http://[::1"',
    '"http://a:99999"',
    '"https://a@b"',
    '"ftp://a"',
    '"http://%"',
    '"http://\\u0000"',
  ];
  return objectText(
    dice,
    {
      url: [dice.pick(urls)],
      secret: [dice.pick([secret, '"env:PATH"', '"env:NOBODY"', '"env:__proto__"', '"whsec_"', '"env:constructor"'])],
      timeoutMs: [dice.pick(["1", "600000", "600001", "0"])],
      maxInFlight: [dice.pick(["1", "10000", "0"])],
    },
    largest,
  );
}

function route(dice: Dice): Part[] {
  return objectText(
    dice,
    {
      event: [dice.pick(['"a"', '"a.*"', '"*"', '"**"', '"__proto__"', '"sync:a"', '"connect"', '"a.*b"'])],
      service: [dice.pick(['"s"', '"nobody"', '"__proto__"', '"constructor"'])],
      path: [dice.pick(['"/{event}"', '"/"', '"//"', '"/../x"', '"/é"', '"/{event}{event}"', '"x"'])],
      mode: [dice.pick(['"call"', '"enqueue"'])],
      ...(dice.chance(0.3) && { rollout: [`{"to":"s","percent":${dice.pick(["0", "100", "33.333", "1e-9", "-0"])}}`] }),
      ...(dice.chance(0.3) && { shadow: [dice.pick(['"s"', '"toString"'])] }),
    },
    largest,
  );
}

/** They concern the answers of the bootstrap only: all may come into force. */
function rollouts(dice: Dice): Part[] {
  const group = (): Part[] =>
    objectText(
      dice,
      {
        name: [`"${dice.pick(["g", "h", "__proto__", "constructor", "canary", "fallback"])}"`],
        percent: [dice.pick(["0", "1", "12.34", "33.33", "100", "0.001", "-0", "1e-300"])],
        ...(dice.chance(0.3) && { users: ["[", { count: '"u#",', times: dice.magnitude(1, 1_100) }, '"fuzz-1"]'] }),
        ...(dice.chance(0.3) && { config: objectText(dice, { a: jsonText(dice, largest, 0.1) }, largest) }),
        ...(dice.chance(0.2) && { url: [dice.pick(['"http://a"', '"http://["', '"https://a/b c"'])] }),
      },
      largest,
    );
  const groups: Part[] = ["[", ...joined(dice.list(dice.between(0, 6), group)), "]"];
  return objectText(
    dice,
    { groups, fallback: objectText(dice, { name: ['"stable"'], config: [smallText(dice)] }, largest) },
    largest,
  );
}

function yaml(dice: Dice): Part[] {
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

function largeYaml(dice: Dice, bytes: number): Part[] {
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

function largeRules(dice: Dice, bytes: number): Part[] {
  const times = (each: number): number => Math.max(1, Math.floor(bytes / each));
  return dice.weighted<Part[]>([
    [1, () => ['{"namespaces":{', { count: '"n#":{"access":"user"},', times: times(26) }, '"z":{}}}']],
    [1, () => ['{"namespaces":{', { count: '"n#":{"a":0},', times: times(17) }, '"z":{}}}']],
    [
      1,
      () => ['{"services":{', { count: `"s#":{"url":"http://a","secret":${secret}},`, times: times(95) }, '"z":{}}}'],
    ],
    [
      1,
      () => [
        '{"routes":[',
        { count: '{"event":"e#","service":"s","path":"/","mode":"call"},', times: times(58) },
        "0]}",
      ],
    ],
    [
      1,
      () => [
        '{"routes":[',
        { repeat: '{"event":"e","service":"s","path":"/","mode":"call"},', times: times(55) },
        "0]}",
      ],
    ],
    [1, () => ['{"routes":[', { repeat: `${dice.pick(["{}", "0", "[]", '{"a":0}'])},`, times: times(5) }, "0]}"]],
    [1, () => ["{", { count: '"k#":0,', times: times(11) }, '"z":0}']],
    [
      1,
      () => ['{"groups":[', { count: '{"name":"g#","percent":0},', times: times(27) }, '0],"fallback":{"name":"f"}}'],
    ],
    [
      1,
      () => [
        '{"groups":[{"name":"g","percent":1,"users":[',
        { count: '"u#",', times: times(9) },
        '"u"]}],"fallback":{"name":"f"}}',
      ],
    ],
    [1, () => ['{"groups":[],"fallback":{"name":"f","config":{"a":', ...largeText(dice, bytes), "}}}"]],
    [1, () => ['{"sources":', ...largeText(dice, bytes), "}"]],
    [1, () => largeText(dice, bytes)],
  ]);
}

function joined(items: readonly Parts[]): Part[] {
  return items.flatMap((item, index) => (index === 0 ? item : [",", ...item]));
}

function name(dice: Dice): string {
  return dice.chance(0.7) ? `n${dice.between(0, 9)}` : shortString(dice);
}
