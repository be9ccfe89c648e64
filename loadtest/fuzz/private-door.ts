/** Generates HTTP requests to the private API: every route, with and without a token, in every format. */
import type { Dice } from "./dice.ts";
import type { Conversation, RequestStep } from "./input.ts";
import { jsonText, largeText, objectText, shortString, smallText } from "./json-text.ts";
import { channelText, fullChannel, fuzzUser } from "./names.ts";
import type { Part } from "./parts.ts";
import { authorization, type Header, httpConversation } from "./requests.ts";

const largest = 20_000;

type Maker = (dice: Dice) => Omit<RequestStep, "headers"> & { readonly type?: string };

const routes: readonly (readonly [weight: number, make: Maker])[] = [
  [6, (dice) => ({ method: "POST", target: ["/v1/publish"], body: publishItem(dice) })],
  [4, (dice) => ({ method: "POST", target: ["/v1/publish/batch"], ...batch(dice) })],
  [2, (dice) => ({ method: "POST", target: userPath(dice, "/send"), body: event(dice) })],
  [1, (dice) => ({ method: "POST", target: userPath(dice, "/disconnect"), body: ending(dice) })],
  [
    2,
    (dice) => ({
      method: "POST",
      target: userPath(dice, dice.pick(["/subscribe", "/unsubscribe"])),
      body: channelBody(dice),
    }),
  ],
  [1, (dice) => ({ method: "GET", target: userPath(dice, "/sessions") })],
  [2, (dice) => ({ method: "GET", target: [...channelPath(dice, "/presence")] })],
  [3, (dice) => ({ method: "GET", target: [...channelPath(dice, "/history"), ...historyQuery(dice)] })],
  [1, (dice) => ({ method: "GET", target: [dice.pick(["/v1/nodes", "/v1/load", "/v1/rules", "/v1/rollouts"])] })],
  [
    1,
    (dice) => ({ method: "POST", target: [`/v1/nodes/${dice.pick(["nobody", "__proto__", "%00", "a%2fb"])}/drain`] }),
  ],
  // Without the scope, or invalid: the target `documents` sends rules that come into force.
  [
    1,
    (dice) => ({
      method: "PUT",
      target: [dice.pick(["/v1/rules", "/v1/rollouts"])],
      body: jsonText(dice, largest, 0.1),
    }),
  ],
  [
    0.5,
    (dice) => ({
      method: "POST",
      target: ["/v1/relay"],
      body: jsonText(dice, largest, 0.1),
      type: "application/x-ndjson",
    }),
  ],
  [
    0.3,
    (dice) => ({ method: "GET", target: [dice.pick(["/livez", "/readyz", "/openapi.json", "/x", "/v1", "/metrics"])] }),
  ],
];

export function privateConversation(dice: Dice): Conversation {
  return httpConversation(
    dice,
    "private",
    (dice) => routeRequest(dice, bearer("apiToken")),
    (dice) => routeRequest(dice, tokenHeader(dice)),
  );
}

function routeRequest(dice: Dice, token: Header[]): RequestStep {
  const { type = "application/json", ...request } = dice.weighted(
    routes.map(([weight, make]) => [weight, () => make(dice)]),
  );
  const headers: Header[] = [...token, ["content-type", [dice.chance(0.95) ? type : "text/plain"]]];
  return { ...request, headers };
}

/** One request, with a token or without, to measure its cost. */
export function costlyPrivateRequest(dice: Dice): Conversation {
  if (dice.chance(0.1)) return costlyRead(dice);
  const bytes = dice.magnitude(2_000, 1_040_000);
  const [target, type] = dice.pick([
    ["/v1/publish", "application/json"],
    ["/v1/publish/batch", "application/json"],
    ["/v1/publish/batch", "application/x-ndjson"],
    ["/v1/users/fuzz-1/send", "application/json"],
    ["/v1/users/fuzz-1/subscribe", "application/json"],
    ["/v1/users/fuzz-1/disconnect", "application/json"],
    ["/v1/rules", "application/json"],
    ["/v1/relay", "application/x-ndjson"],
    ["/v1/rules", "application/yaml"],
  ] as const);
  const body = dice.weighted<Part[]>([
    [3, () => largeText(dice, bytes)],
    [
      2,
      () => [
        {
          repeat: `${dice.pick(["}", "0", "{}", "[]", '{"channel":"fuzz:1","event":"a","data":0}', '{"a":0}', "x"])}\n`,
          times: Math.floor(bytes / 10),
        },
      ],
    ],
    [2, () => ["[", { repeat: '{"channel":"fuzz:1","event":"a","data":0},', times: Math.floor(bytes / 45) }, "0]"]],
    [2, () => ["[", { repeat: '{"a":0},', times: Math.floor(bytes / 10) }, "0]"]],
    [1, () => ['{"channel":"fuzz:1","event":"a","data":', ...largeText(dice, bytes), "}"]],
    [1, () => ['{"channel":', ...largeText(dice, bytes), ',"event":"a","data":0}']],
    [1, () => ['[{"channel":"fuzz:1","event":"a","data":', ...largeText(dice, bytes), "}]"]],
    [1, () => ['{"event":"a","data":', ...largeText(dice, bytes), "}"]],
  ]);
  const method = target === "/v1/rules" ? "PUT" : "POST";
  const headers: Header[] = [["content-type", [type]], ...(dice.chance(0.6) ? bearer("apiToken") : [])];
  const request: RequestStep = { method, target: [target], headers, body };
  return { kind: "conversation", door: "private", opening: "bare", steps: [{ request }], ending: "answered" };
}

function costlyRead(dice: Dice): Conversation {
  const open = ["/metrics", "/openapi.json", "/readyz"];
  const closed = [
    `/v1/channels/${fullChannel}/history`,
    `/v1/channels/${fullChannel}/presence`,
    "/v1/nodes",
    "/v1/rules",
    "/v1/load",
  ];
  const isOpen = dice.chance(0.5);
  const request: RequestStep = {
    method: "GET",
    target: [dice.pick(isOpen ? open : closed)],
    headers: isOpen ? [] : bearer("apiToken"),
  };
  return { kind: "conversation", door: "private", opening: "bare", steps: [{ request }], ending: "answered" };
}

export function bearer(token: "apiToken" | "rulesToken" | "relayToken"): Header[] {
  return [["authorization", ["Bearer ", { live: token }]]];
}

function tokenHeader(dice: Dice): Header[] {
  return dice.weighted<Header[]>([
    [1, () => bearer("apiToken")],
    [1, () => bearer("relayToken")],
    [3, () => authorization(dice)],
  ]);
}

function publishItem(dice: Dice): Part[] {
  return objectText(
    dice,
    {
      channel: ['"', ...channelText(dice, largest), '"'],
      event: [`"${dice.chance(0.8) ? "fuzz.a" : shortString(dice).replaceAll('"', "")}"`],
      data: jsonText(dice, largest),
      ...(dice.chance(0.2) && { id: [`"i${dice.between(0, 99)}"`] }),
      ...(dice.chance(0.3) && { history: [dice.pick(["true", "false"])] }),
      ...(dice.chance(0.2) && { expect: [`{"epoch":"x","offset":${dice.between(0, 9)}}`] }),
    },
    largest,
  );
}

function batch(dice: Dice): { body: Part[]; type: string } {
  const items = dice.list(dice.magnitude(1, 30), () => publishItem(dice));
  const separated = (separator: string): Part[] =>
    items.flatMap((item, index) => (index === 0 ? item : [separator, ...item]));
  return dice.chance(0.5)
    ? { type: "application/json", body: ["[", ...separated(","), "]"] }
    : { type: "application/x-ndjson", body: separated(dice.pick(["\n", "\n", "\r\n", "\n\n", ""])) };
}

function event(dice: Dice): Part[] {
  return objectText(dice, { event: ['"fuzz.a"'], data: jsonText(dice, largest) }, largest);
}

function ending(dice: Dice): Part[] {
  return objectText(
    dice,
    { reason: ['"fuzzed"'], reconnect: [dice.pick(["true", "false"])], sessionId: [`"${shortString(dice)}"`] },
    largest,
  );
}

function channelBody(dice: Dice): Part[] {
  return objectText(dice, { channel: ['"', ...channelText(dice, largest), '"'] }, largest);
}

function userPath(dice: Dice, end: string): Part[] {
  const strange = [
    "",
    "%00",
    "%2f",
    "..",
    "a%20b",
    "%ed%a0%80",
    "%F0%9F%98%80",
    "__proto__",
    "a".repeat(257),
    "a:b",
    "a?b",
    "%25",
  ];
  const tenant = dice.chance(0.1) ? `?tenant=${dice.pick(["a", "", "%00", "a&tenant=b"])}` : "";
  return [`/v1/users/${dice.chance(0.8) ? fuzzUser(dice) : dice.pick(strange)}${end}${tenant}`];
}

function channelPath(dice: Dice, end: string): Part[] {
  return ["/v1/channels/", ...channelText(dice, 2_000), end];
}

function historyQuery(dice: Dice): Part[] {
  return [
    dice.pick([
      ...[
        "",
        "",
        "?after=0",
        "?limit=10",
        "?limit=1000",
        "?epoch=x",
        "?after=0&limit=1",
        "?limit=0",
        "?after=-1",
        "?limit=1e2",
      ],
      ...[
        "?after=9007199254740992",
        "?limit[]=1",
        "?limit=1&limit=2",
        "?__proto__=1",
        "?x=y",
        `?epoch=${"a".repeat(65)}`,
      ],
      `?epoch=${smallText(dice, 0).replaceAll(/[^a-z0-9]/g, "")}`,
    ]),
  ];
}
