/** Generates the text of rules and rollouts documents, as JSON. */
import type { Dice } from "./dice.ts";
import { jsonText, largeText, mutatedParts, objectText, shortString, smallText } from "./json-text.ts";
import type { Part, Parts } from "./parts.ts";

const largest = 50_000;
const secret = '"whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="';

/** The rules of the honest client and further members. */
export function extendedRules(dice: Dice): Part[] {
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

export function rules(dice: Dice): Part[] {
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

/** Rollouts affect only the answers of the bootstrap: all may come into force. */
export function rollouts(dice: Dice): Part[] {
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

/** A large document, to measure its cost. */
export function largeRules(dice: Dice, bytes: number): Part[] {
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
