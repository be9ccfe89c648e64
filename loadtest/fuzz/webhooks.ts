/** Generates webhooks for the gateway's public port: forged ones, and any for a source that checks no signature. */
import { openSource } from "./arena-rules.ts";
import type { Dice } from "./dice.ts";
import type { Conversation, RequestStep, Step } from "./input.ts";
import { jsonText, largeText, objectText, smallText } from "./json-text.ts";
import type { Part } from "./parts.ts";
import { type Header, httpConversation } from "./requests.ts";

/** Whose webhooks are stored: they count as authenticated. */
export const openHook = `/hooks/${openSource}`;
const signedHooks = ["/hooks/github", "/hooks/slack", "/hooks/stripe", "/hooks/sms", "/hooks/any", "/hooks/standard"];
/** Larger ones are measured one by one: to make them takes the fuzzer longer than the gateway to refuse them. */
const largest = 30_000;

export function hookConversation(dice: Dice): Conversation {
  const conversation = httpConversation(dice, "public", (dice) => hookRequest(dice, hookBody(dice, largest)));
  // Node's HTTP server parses what comes with, or amid, another request. The door reads most others.
  return dice.chance(0.05) ? { ...conversation, steps: conversation.steps.flatMap(inTurn) } : conversation;
}

/** Each request waits for the answers to those before it. */
function inTurn(step: Step): Step[] {
  return "request" in step ? [{ ready: true }, step] : [step];
}

/** One request, to measure its cost. */
export function costlyHook(dice: Dice): Conversation {
  const body = dice.weighted<Part[]>([
    [3, () => largeText(dice, 1_000_000)],
    [1, () => [{ repeat: dice.pick(["&", "a=%41&", "%41", "a&", "\\u0041"]), times: dice.magnitude(1_000, 150_000) }]],
    [2, () => objectText(dice, { all: largeText(dice, 900_000), key: ['"k"'], id: ["1"] }, largest)],
  ]);
  const request = hookRequest(dice, body);
  return { kind: "conversation", door: "public", opening: "bare", steps: [{ request }], ending: "answered" };
}

function hookRequest(dice: Dice, body: Part[]): RequestStep {
  const path = dice.weighted<string>([
    [3, () => openHook],
    [5, () => dice.pick(signedHooks)],
    [1, () => dice.pick(["/hooks", "/hooks/", "/hooks/nobody", "/hooks/__proto__", "/hooks/%00", "/hooks/a%2Fb"])],
  ]);
  const rest = dice.pick([
    "",
    "",
    "/",
    "/acme",
    "/%ff",
    "/a/b/c",
    "?a=b",
    "?hub.mode=subscribe&hub.challenge=1",
    "?%ff",
  ]);
  return {
    method: dice.chance(0.9) ? "POST" : dice.pick(["GET", "PUT", "HEAD"]),
    target: [path, rest],
    headers: [["content-type", [contentType(dice)]], ...signatures(dice)],
    body,
  };
}

function contentType(dice: Dice): string {
  return dice.pick([
    ...["application/json", "application/json", "application/json; charset=utf-8", "text/plain", "text/xml", ""],
    ...["application/x-www-form-urlencoded", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b"],
  ]);
}

/** Each of the right form, at times: forged all the same. */
function signatures(dice: Dice): Header[] {
  const hex = dice.pick(["0".repeat(64), "f".repeat(64), "zz", "0".repeat(63), ""]);
  const base64 = dice.pick(["AAAA", `${"A".repeat(43)}=`, "====", ""]);
  const seconds = String(Math.floor(dice.pick([0, 1_700_000_000, 4_102_444_800])));
  const all: Header[] = [
    ["x-hub-signature-256", [`sha256=${hex}`]],
    ["x-slack-signature", [`v0=${hex}`]],
    ["x-slack-request-timestamp", [seconds]],
    ["stripe-signature", [{ repeat: `v1=${hex},`, times: dice.magnitude(1, 50) }, `t=${seconds}`]],
    ["x-twilio-signature", [base64]],
    ["webhook-id", ["msg_1"]],
    ["webhook-timestamp", [seconds]],
    ["webhook-signature", [{ repeat: `v1,${base64} `, times: dice.magnitude(1, 50) }]],
    ["x-signature", [hex]],
  ];
  return all.filter(() => dice.chance(0.7));
}

function hookBody(dice: Dice, bytes: number): Part[] {
  return dice.weighted<Part[]>([
    [3, () => objectText(dice, { key: [smallText(dice)], id: [smallText(dice)], all: jsonText(dice, bytes) }, bytes)],
    [2, () => jsonText(dice, bytes)],
    [
      1,
      () => [
        `key=${dice.between(0, 9)}&id=${dice.between(0, 99)}&`,
        { repeat: "a=b&", times: dice.magnitude(1, 2_000) },
      ],
    ],
    [2, () => [{ hex: randomHex(dice, dice.magnitude(1, 2_000)) }]],
    [0.5, () => largeText(dice, bytes)],
    [0.5, () => []],
  ]);
}

function randomHex(dice: Dice, bytes: number): string {
  return dice.list(bytes, () => dice.between(0, 255).toString(16).padStart(2, "0")).join("");
}
