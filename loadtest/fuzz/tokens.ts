/** Generates client tokens: valid, forged, and validly signed with strange claims. */
import type { Dice } from "./dice.ts";
import { jsonText, objectText } from "./json-text.ts";
import type { Part } from "./parts.ts";
import { fuzzUser } from "./names.ts";

/** The year 2100. */
const farExp = "4102444800";

const strangeMembers = {
  sub: [
    ...['""', "5", "null", "{}", "[]", '["a"]', '{"toString":"a"}', '"\\ud800"', '"\\u0000"', '"a\\nb"', '"__proto__"'],
  ],
  exp: [...["0", "-1", "1e300", "1e18", "9007199254740993", '"5"', "null", "1.5", "4102444800.999", "253402300800"]],
  channels: [
    ...[
      "null",
      "5",
      '"fuzz:*"',
      "{}",
      "[5]",
      "[null]",
      '["*"]',
      '[""]',
      '["**"]',
      '["fuzz:"]',
      '["__proto__"]',
      "[[]]",
    ],
  ],
  tenant: ['"a"', '""', "null", "5", '"\\ud800"', '"__proto__"', '"a/b"'],
  info: ["null", "5", '"x"', '{"a":[]}', '{"__proto__":{"a":1}}'],
  nbf: ["4102444799", '"a"', "-1", "null"],
  iat: ["4102444799", '"a"', "-1", "null"],
  iss: ["null", '"a"', "{}"],
  aud: ["null", '"a"', "[]", "[5]"],
  jti: ["null", '"a"', "{}"],
  b64: ["false", "true"],
} as const;

const headers = [
  ...[
    '{"alg":"none"}',
    '{"alg":"HS512"}',
    '{"alg":"RS256"}',
    '{"alg":"hs256"}',
    '{"alg":null}',
    '{"alg":["HS256"]}',
    "{}",
  ],
  ...[
    '{"alg":"HS256","crit":["exp"]}',
    '{"alg":"HS256","b64":false,"crit":["b64"]}',
    '{"alg":"HS256","kid":"../../etc"}',
  ],
  ...[
    '{"alg":"HS256","typ":5}',
    '{"alg":"HS256","zip":"DEF"}',
    '{"alg":"ES256","kid":""}',
    "null",
    "5",
    "[",
    '{"alg":"dir","enc":"A128GCM"}',
  ],
] as const;

/** The content of a JSON string, without its quotes. */
export function tokenText(dice: Dice, largest: number): Part[] {
  return dice.weighted<Part[]>([
    [3, () => [{ live: "token" }]],
    [2, () => [{ live: "sameToken" }]],
    [1, () => [{ live: "expiredToken" }]],
    [8, () => [strangeToken(dice, largest)]],
    [1, () => [{ live: "apiToken" }]],
    [1, () => [{ live: "resume" }]],
    [
      1,
      () => [
        dice.pick(["", ".", "..", "a.b.c", "a.b.c.d.e", "e30.e30.", "null", "\\u0000", "😀.😀.😀", "-_-.-_-.-_-"]),
      ],
    ],
    [0.5, () => [{ repeat: dice.pick([".", "a", "e30.", "=", "%", "é"]), times: dice.magnitude(1, largest) }]],
  ]);
}

function strangeToken(dice: Dice, largest: number): Part {
  const members: Record<string, string[]> = {
    sub: [`"${fuzzUser(dice)}"`],
    exp: [farExp],
    channels: ['["fuzz:*"]'],
  };
  for (const [name, values] of Object.entries(strangeMembers)) {
    if (dice.chance(0.25)) members[name] = [dice.pick<string>(values)];
  }
  const claims = dice.chance(0.9)
    ? objectText(dice, members, Math.min(largest, 6_000))
    : jsonText(dice, Math.min(largest, 6_000), 0.3);
  const text = claims.map((part) => expanded(part)).join("");
  return { jwt: text, ...(dice.chance(0.15) && { header: dice.pick<string>(headers) }) };
}

/** Expands parts to text, bounded: a token has at most 8 KiB. */
function expanded(part: Part): string {
  if (typeof part === "string") return part;
  if ("repeat" in part) return part.repeat.repeat(Math.min(part.times, 6_000));
  if ("count" in part) {
    return Array.from({ length: Math.min(part.times, 600) }, (_, i) => part.count.replaceAll("#", String(i))).join("");
  }
  return "";
}

/** The `auth` object of a CONNECT packet. */
export function authText(dice: Dice, largest: number): Part[] {
  const members: Record<string, Part[]> = {};
  if (dice.chance(0.85)) members["token"] = ['"', ...tokenText(dice, largest), '"'];
  if (dice.chance(0.3)) {
    members["resume"] = dice.weighted<Part[]>([
      [3, () => ['"', { live: "resume" }, '"']],
      [1, () => ['"', { repeat: dice.pick(["A", "AQ", "_", "="]), times: dice.magnitude(1, largest) }, '"']],
      [1, () => jsonText(dice, largest, 0.1)],
    ]);
  }
  if (dice.chance(0.2)) members["protocol"] = [dice.pick(["1", "0", "2", "1.5", '"1"', "null", "1e999", "[1]"])];
  if (dice.chance(0.2)) members["moves"] = [dice.pick(["true", "false", "null", '"true"', "1"])];
  return dice.chance(0.92) ? objectText(dice, members, largest) : jsonText(dice, largest, 0.1);
}
