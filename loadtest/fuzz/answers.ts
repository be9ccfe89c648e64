/** Generates the answers of a hostile private API and a hostile service. */
import type { Dice } from "./dice.ts";
import type { Answer, AnswerStep } from "./input.ts";
import { brokenText, jsonText, largeText, mutatedParts, objectText, smallText } from "./json-text.ts";
import type { Part, Parts } from "./parts.ts";

const id: Part = { live: "id" };

/** Lines of the relay. */
export function relayAnswer(dice: Dice): Answer {
  const asked = kindOfQuestion(dice);
  const steps = dice.weighted<AnswerStep[]>([
    [10, () => [goodLine(dice, asked)]],
    [3, () => [goodLine(dice, asked), goodLine(dice, asked)]],
    [2, () => [{ pauseMs: dice.magnitude(1, 800) }, goodLine(dice, asked)]],
    [1, () => []],
    [2, () => [strangeLine(dice), goodLine(dice, asked)]],
    [1, () => [{ line: ['{"drain":true}'] }, ...(dice.chance(0.5) ? [goodLine(dice, asked)] : [])]],
    [1, () => [{ send: anyBytes(dice) }]],
    [1, () => [...(dice.chance(0.5) ? [goodLine(dice, asked)] : []), { end: dice.pick(["half-close", "reset"]) }]],
    [0.5, () => [{ send: ['5\r\n{"id"'] }, { end: "reset" }]],
    [0.05, () => [{ line: [{ repeat: dice.pick(["x", '{"a":', "é"]), times: 600_000 }] }]],
  ]);
  return { kind: "relay-answer", asked, steps };
}

/** One large line, to measure its cost. */
export function costlyRelayAnswer(dice: Dice): Answer {
  const value = largeText(dice, dice.magnitude(2_000, 1_048_000));
  const asked = "call";
  const line: Part[] = dice.weighted<Part[]>([
    [3, () => ['{"id":', id, ',"ok":true}\t', ...value]],
    [1, () => ['{"id":', id, ',"ok":false,"error":{"code":"a","message":"b","retryable":false}}\t', ...value]],
    [1, () => ['{"id":', id, ',"ok":true,"more":', ...value, "}"]],
    [
      1,
      () => [
        '{"id":',
        id,
        ',"ok":false,"error":{"code":"',
        { repeat: "a", times: 100_000 },
        '","message":"","retryable":true}}',
      ],
    ],
    [1, () => value],
  ]);
  return { kind: "relay-answer", asked, steps: [{ line }], patient: true };
}

/** HTTP answers of a service, valid and broken. */
export function serviceAnswer(dice: Dice): Answer {
  const asked = kindOfQuestion(dice);
  const steps = dice.weighted<AnswerStep[]>([
    [14, () => [{ send: httpAnswer(dice, asked) }]],
    [2, () => [{ send: mutatedParts(dice, httpAnswer(dice, asked)) }]],
    [1, () => [{ pauseMs: dice.magnitude(1, 700) }, { send: httpAnswer(dice, asked) }]],
    [
      1,
      () => [
        { send: ["HTTP/1.1 200 OK\r\n"] },
        { pauseMs: dice.magnitude(1, 700) },
        { send: ["content-length: 2\r\n\r\n{}"] },
      ],
    ],
    [
      1,
      () => [
        { send: ["HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"] },
        { end: dice.pick(["half-close", "reset"]) },
      ],
    ],
    [
      1,
      () => [
        {
          send: [
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            dice.pick([
              "2\r\n{}\r\n0\r\n\r\n",
              "2\r\n{}\r\n",
              "zz\r\n",
              "ffffffff\r\n{}",
              "2;a=b\r\n{}\r\n0\r\nx: y\r\n\r\n",
            ]),
          ],
        },
      ],
    ],
    [1, () => [{ end: dice.pick(["half-close", "reset"]) }]],
    [0.5, () => largeAnswer(dice, asked)],
    [1, () => []],
    [1, () => [{ send: anyBytes(dice) }]],
    [1, () => [{ send: [...httpAnswer(dice, asked), ...httpAnswer(dice, asked)] }]],
    [
      0.5,
      () => [
        {
          send: [
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n",
            ...httpAnswer(dice, asked),
          ],
        },
      ],
    ],
  ]);
  return { kind: "service-answer", asked, steps };
}

/** One large answer, to measure its cost. */
export function costlyServiceAnswer(dice: Dice): Answer {
  const asked = dice.pick(["call", "call", "call", "connect", "subscribe"] as const);
  return { kind: "service-answer", asked, steps: largeAnswer(dice, asked), patient: true };
}

function largeAnswer(dice: Dice, asked: Answer["asked"]): AnswerStep[] {
  const value = largeText(dice, dice.magnitude(2_000, 1_048_000));
  const status = asked === "call" && dice.chance(0.3) ? 409 : 200;
  const body = status === 409 ? ['{"code":"a","message":"b","details":', ...value, "}"] : value;
  // The length is unknown before rendering: the end of the connection ends the body.
  const send = [`HTTP/1.1 ${status} x\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n`, ...body];
  return [{ send }, { end: "half-close" }];
}

function kindOfQuestion(dice: Dice): Answer["asked"] {
  return dice.pick(["call", "call", "call", "call", "connect", "subscribe"] as const);
}

function goodLine(dice: Dice, asked: Answer["asked"]): AnswerStep {
  const ok: Record<string, Parts> = { id: [id], ok: ["true"] };
  const failed: Record<string, Parts> = { id: [id], ok: ["false"], error: wireError(dice) };
  const [members, payload] = dice.chance(0.7)
    ? [ok, asked === "call" ? jsonText(dice, 20_000) : grant(dice)]
    : [failed, dice.chance(0.7) ? [] : [smallText(dice)]];
  const text = [...objectText(dice, members, 20_000), ...(payload.length > 0 ? ["\t", ...payload] : [])];
  return { line: dice.chance(0.05) ? mutatedParts(dice, text) : text };
}

function strangeLine(dice: Dice): AnswerStep {
  const ids = ["0", "-1", "1.5", "1e308", '"1"', "null", "9007199254740993", String(dice.between(1, 1_000))];
  return {
    line: dice.weighted<Part[]>([
      [3, () => [`{"id":${dice.pick(ids)},"ok":true}\t${smallText(dice)}`]],
      [1, () => jsonText(dice, 20_000, 0.1)],
      [1, () => brokenText(dice, 20_000)],
      [1, () => [""]],
      [1, () => [`{"drain":${dice.pick(["true", "false", "1"])}}`]],
      [1, () => ['{"hello":2,"node":"a"}']],
    ]),
  };
}

function wireError(dice: Dice): Part[] {
  return objectText(
    dice,
    {
      code: [dice.pick(['"upstream_failed"', '"own.code"', '""', '"__proto__"', '"rate_limited"'])],
      message: ['"m"'],
      retryable: [dice.pick(["true", "false"])],
      ...(dice.chance(0.3) && { retryAfterMs: [dice.pick(["0", "-1", "1e308", "1.5", "9007199254740993"])] }),
      ...(dice.chance(0.3) && { status: [dice.pick(["200", "0", "-1", "1e9"])] }),
    },
    20_000,
  );
}

/** The answer of a hook. */
function grant(dice: Dice): Part[] {
  return objectText(
    dice,
    {
      ...(dice.chance(0.5) && {
        channels: [dice.pick(['["other:*"]', "[]", '[""]', '["**"]', '["__proto__"]', "[5]"])],
      }),
      ...(dice.chance(0.5) && { info: jsonText(dice, 2_000, 0.05) }),
    },
    20_000,
  );
}

function httpAnswer(dice: Dice, asked: Answer["asked"]): Part[] {
  const status = dice.weighted<string>([
    [8, () => "200 OK"],
    [
      6,
      () =>
        dice.pick([
          "204 x",
          "201 x",
          "301 x",
          "304 x",
          "400 x",
          "401 x",
          "403 x",
          "404 x",
          "409 x",
          "429 x",
          "500 x",
          "503 x",
        ]),
    ],
    [
      1,
      () =>
        dice.pick([
          "999 x",
          "600 x",
          "0 x",
          "99 x",
          "1000 x",
          "-1 x",
          "abc",
          "101 Switching Protocols",
          "200",
          "2e2 x",
          "",
        ]),
    ],
  ]);
  const body: Parts =
    asked !== "call"
      ? grant(dice)
      : status.startsWith("4") && dice.chance(0.7)
        ? objectText(dice, { code: ['"own"'], message: ['"m"'], details: jsonText(dice, 20_000) }, 20_000)
        : dice.chance(0.9)
          ? jsonText(dice, 20_000)
          : brokenText(dice, 20_000);
  const headers = dice.list(dice.between(0, 2), () => answerHeader(dice)).join("");
  const plain = body.every((part) => typeof part === "string") ? Buffer.byteLength(body.join("")) : undefined;
  if (plain === undefined) return [`HTTP/1.1 ${status}\r\n${headers}connection: close\r\n\r\n`, ...body];
  const length = dice.chance(0.95) ? plain : dice.pick([plain + 1, Math.max(0, plain - 1), 0]);
  return [`HTTP/1.1 ${status}\r\n${headers}content-length: ${length}\r\n\r\n`, ...body];
}

function answerHeader(dice: Dice): string {
  return dice.weighted<string>([
    [3, () => "content-type: application/json\r\n"],
    [
      2,
      () =>
        `retry-after: ${dice.pick(["5", "-1", "1e309", "x", "Wed, 21 Oct 2099 07:28:00 GMT", "99999999999999999999", ""])}\r\n`,
    ],
    [1, () => `content-encoding: ${dice.pick(["gzip", "br", "deflate", "x"])}\r\n`],
    [1, () => `connection: ${dice.pick(["close", "keep-alive", "upgrade"])}\r\n`],
    [1, () => `set-cookie: a=${"b".repeat(dice.magnitude(1, 2_000))}\r\n`],
    [0.3, () => `x: ${"a".repeat(dice.magnitude(1, 30_000))}\r\n`],
    [0.3, () => dice.list(dice.magnitude(1, 500), (i) => `x-${i}: a\r\n`).join("")],
    [
      0.5,
      () =>
        dice.pick([
          "keep-alive: timeout=0\r\n",
          "transfer-encoding: chunked\r\n",
          "upgrade: h2c\r\n",
          "trailer: x\r\n",
          ": a\r\n",
          "a b: c\r\n",
          "x: \u0000\r\n",
        ]),
    ],
  ]);
}

function anyBytes(dice: Dice): Part[] {
  return [
    dice.chance(0.5)
      ? { hex: dice.list(dice.between(1, 40), () => dice.between(0, 255).toString(16).padStart(2, "0")).join("") }
      : dice.pick([
          "\r\n",
          "0\r\n\r\n",
          "HTTP/2 200\r\n\r\n",
          "\u0016\u0003\u0001",
          "{}\n",
          '{"id":1}\n',
          "5\r\nhello\r\n",
          "ffffffffffffffff\r\n",
        ]),
  ];
}
