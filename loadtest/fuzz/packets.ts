/** Generates packets of Engine.IO and Socket.IO with requests of the gateway's protocol. */
import { socketIoReservedEvents } from "../../shared/protocol/grammar.ts";
import type { Dice } from "./dice.ts";
import { brokenText, jsonText, largeText, mutatedParts, objectText, shortString, smallText } from "./json-text.ts";
import { channelText } from "./names.ts";
import type { Part, Parts } from "./parts.ts";
import { authText, tokenText } from "./tokens.ts";

/** The largest message in bytes; a larger one closes the connection. */
export const maxMessageBytes = 397_312;

const eventNames = [
  ...[
    "echo",
    "echo",
    "echo",
    "fuzz.a",
    "shadow.a",
    "split.a",
    "fuzz.b.c",
    "hostile.none",
    "nothing",
    "error",
    "message",
    "ping",
    "data",
    "open",
  ],
  ...[
    "__proto__",
    "constructor",
    "toString",
    "123",
    "0",
    "",
    " ",
    "a b",
    "é",
    "\\u0000",
    "sync:",
    "sync:unknown",
    "sync:welcome",
  ],
  ...["sync:__proto__", "sync:toString", "sync:subscribe ", "SYNC:subscribe", "newlistener", "Connect"],
] as const;

const ackIds = ["", "0", "1", "7", "2147483648", "00"] as const;

/** A message that leaves the session open. */
export function sessionPacket(dice: Dice, largest: number): Part[] {
  return dice.weighted<Part[]>([
    [10, () => request(dice, largest)],
    [10, () => applicationEvent(dice, largest)],
    [0.1, () => ackPacket(dice, largest)],
    [0.1, () => [dice.pick(["3", "6", "3probe", "6x"])]],
  ]);
}

/** A message that may close the connection. */
export function closingPacket(dice: Dice, largest: number): Part[] {
  return dice.weighted<Part[]>([
    [4, () => mutatedParts(dice, sessionPacket(dice, largest))],
    [2, () => [`4${dice.between(0, 9)}${smallText(dice)}`]],
    [1, () => [`42${JSON.stringify([dice.pick(socketIoReservedEvents)])}`]],
    [1, () => ["40", ...authText(dice, largest)]],
    [
      1,
      () => [
        dice.pick([
          "0",
          "1",
          "2",
          "4",
          "5",
          "7",
          "b",
          "",
          "2probe",
          "5probe",
          "bAQID",
          "b",
          "b=",
          "40",
          "41",
          "44",
          "45",
        ]),
      ],
    ],
    [2, () => attachments(dice, largest)],
    [1, () => [`4${dice.pick(["0", "1", "2", "3", "4"])}/${shortString(dice)},${smallText(dice)}`]],
    [0.3, () => ["42/", { repeat: dice.pick(["a", "/", "?"]), times: dice.magnitude(1, largest) }, ",[]"]],
    [0.3, () => ["42", { repeat: dice.pick(["1", "0"]), times: dice.magnitude(1, largest) }, '["echo"]']],
    [1, () => ["42", ...jsonText(dice, largest, 0.1)]],
    [1, () => ['421["echo",', ...brokenText(dice, largest), "]"]],
    [1, () => [`42${dice.pick(["-1", "1.5", "1e3", " 1", "9007199254740993"])}["echo"]`]],
    [0.5, () => [{ repeat: dice.pick(["4", "42", "[", "\u001e", "é"]), times: dice.magnitude(1, largest) }]],
  ]);
}

/** The CONNECT packet of an unauthenticated client, valid or not. */
export function connectPacket(dice: Dice, largest: number): Part[] {
  const namespace = dice.chance(0.9) ? "" : dice.pick(["/,", "/x,", "/?a=b,", "/__proto__,", ",", "/"]);
  return [`40${namespace}`, ...authText(dice, largest)];
}

function request(dice: Dice, largest: number): Part[] {
  const channel = ['"', ...channelText(dice, largest), '"'];
  const epoch: Part[] = dice.chance(0.6) ? ['"', { live: "epoch" }, '"'] : ['"x"'];
  const offset = [dice.pick(["0", "1", "50", "9007199254740991", "9007199254740992", "-1", "1.5", "1e3"])];
  const name = dice.pick(["subscribe", "subscribe", "unsubscribe", "history", "presence", "refresh"] as const);
  const members: Record<typeof name, () => Record<string, Parts>> = {
    subscribe: () => ({
      channel,
      ...(dice.chance(0.4) && { position: objectText(dice, { epoch, offset }, largest) }),
      ...(dice.chance(0.2) && { grant: ['"', dice.chance(0.5) ? { live: "grant" } : "AAAA", '"'] }),
    }),
    unsubscribe: () => ({ channel }),
    history: () => ({
      channel,
      ...(dice.chance(0.4) && { epoch }),
      ...(dice.chance(0.5) && { after: offset }),
      ...(dice.chance(0.5) && { limit: [dice.pick(["1", "10", "1000", "1001", "0", "-1"])] }),
    }),
    presence: () => ({ channel }),
    refresh: () => ({ token: ['"', ...tokenText(dice, largest), '"'] }),
  };
  const argument = objectText(dice, members[name](), largest);
  const more = dice.chance(0.04) ? [",", ...argumentList(dice, largest)] : [];
  return [`42${ackId(dice)}["sync:${name}"`, ...(dice.chance(0.02) ? [] : [",", ...argument]), ...more, "]"];
}

function applicationEvent(dice: Dice, largest: number): Part[] {
  const name: Parts = dice.weighted<Parts>([
    [12, () => [`"${dice.pick(eventNames)}"`]],
    [1, () => [dice.pick(["5", "0", "-1", "1e20"])]],
    [0.2, () => ['"', { repeat: dice.pick(["a", ".", "é"]), times: dice.magnitude(1, largest) }, '"']],
  ]);
  const args = dice.chance(0.1) ? [] : [",", ...argumentList(dice, largest)];
  return [`42${ackId(dice)}[`, ...name, ...args, "]"];
}

/** Data, and the options of a call. */
function argumentList(dice: Dice, largest: number): Part[] {
  return dice.weighted<Part[]>([
    [6, () => jsonText(dice, largest)],
    [3, () => [...jsonText(dice, largest), ",", ...callOptions(dice, largest)]],
    [1, () => [dice.list(dice.between(2, 8), () => smallText(dice)).join(",")]],
    [
      0.1,
      () => [{ repeat: `${dice.pick(["0", "null", "{}", "[]", '""'])},`, times: dice.magnitude(1, largest / 3) }, "0"],
    ],
  ]);
}

function callOptions(dice: Dice, largest: number): Part[] {
  const id = dice.chance(0.9) ? ['"i1"'] : ['"', { repeat: "i", times: dice.magnitude(1, largest) }, '"'];
  const timeoutMs = [dice.pick(["1", "50", "500", "1e9", "0", "-1", "2147483648", "1.5"])];
  return objectText(dice, { id, timeoutMs }, largest);
}

function ackPacket(dice: Dice, largest: number): Part[] {
  return [`43${dice.pick(ackIds.slice(1))}[`, ...jsonText(dice, largest), "]"];
}

function ackId(dice: Dice): string {
  return dice.chance(0.9) ? String(dice.between(0, 999)) : dice.pick(ackIds);
}

/** The head of a binary event; its attachments may or may not follow. */
function attachments(dice: Dice, largest: number): Part[] {
  const count = dice.pick(["0", "1", "2", "10", "1000", "4294967296", "1e9", "-1", "", "01", "9".repeat(400)]);
  const type = dice.pick(["5", "6"]);
  return [
    `4${type}${count}-${type === "6" ? "1" : ackId(dice)}`,
    ...dice.weighted<Part[]>([
      [3, () => ['["echo",{"_placeholder":true,"num":0}]']],
      [1, () => [`["echo",{"_placeholder":true,"num":${dice.pick(["-1", "1e9", "null", '"0"', "0.5", "1"])}}]`]],
      [
        1,
        () => ['["echo",', { repeat: '{"_placeholder":true,"num":0},', times: dice.magnitude(1, largest / 30) }, "0]"],
      ],
      [1, () => jsonText(dice, largest, 0.2)],
    ]),
  ];
}

/** One large message of the most expensive kinds. */
export function largePacket(dice: Dice, authenticated: boolean): Part[] {
  const bytes = dice.magnitude(2_000, maxMessageBytes - 200);
  const value = (): Part[] => largeText(dice, bytes);
  if (!authenticated) {
    return dice.weighted<Part[]>([
      [2, () => ["40", ...value()]],
      [2, () => ['40{"token":', ...value(), "}"]],
      [2, () => ['40{"token":"', { repeat: dice.pick(["a", ".", "e30."]), times: Math.floor(bytes / 4) }, '"}']],
      [2, () => ['40{"resume":', ...value(), "}"]],
      [1, () => ['40{"resume":"', { repeat: "AQ", times: Math.floor(bytes / 2) }, '"}']],
      [2, () => ["40{", { count: '"k#":0,', times: Math.floor(bytes / 10) }, '"z":0}']],
      [1, () => ["40/", { repeat: dice.pick(["a", "?"]), times: bytes }, ",{}"]],
      [1, () => ["42", ...value()]],
      [1, () => ["42", { repeat: dice.pick(["[", "}", '{"a":']), times: Math.floor(bytes / 5) }]],
      [1, () => ["45", { repeat: "9", times: bytes }, "-"]],
      [1, () => ["b", { repeat: "A", times: bytes }]],
      [1, () => [{ repeat: dice.pick(["4", "0", "é", "\u001e"]), times: Math.floor(bytes / 2) }]],
    ]);
  }
  const name = dice.pick(["subscribe", "unsubscribe", "history", "presence", "refresh"]);
  return dice.weighted<Part[]>([
    [3, () => ['421["echo",', ...value(), "]"]],
    [1, () => ['421["nothing",', ...value(), "]"]],
    [1, () => ['421["echo",0,', ...value(), "]"]],
    [2, () => ['421["a",', { repeat: `${dice.pick(["0", "{}", "[]", '""'])},`, times: Math.floor(bytes / 3) }, "0]"]],
    [2, () => ['421["', { repeat: dice.pick(["a", ".", "é", "sync:"]), times: Math.floor(bytes / 5) }, '"]']],
    [3, () => [`421["sync:${name}",`, ...value(), "]"]],
    [2, () => [`421["sync:${name}",{`, { count: '"k#":0,', times: Math.floor(bytes / 10) }, '"z":0}]']],
    [
      3,
      () => [
        `421["sync:${name}",{"${dice.pick(["channel", "token", "grant", "epoch", "position", "limit"])}":`,
        ...value(),
        "}]",
      ],
    ],
    [1, () => ['421["sync:subscribe",{"channel":"fuzz:1","position":', ...value(), "}]"]],
    [2, () => ['421["echo",0,{', { count: '"k#":0,', times: Math.floor(bytes / 10) }, '"z":0}]']],
    [1, () => ["42", { repeat: "1", times: bytes }, "[]"]],
    [1, () => ["431[", ...value(), "]"]],
    [1, () => ["451-", '["echo",{"_placeholder":true,"num":0},', ...value(), "]"]],
    [1, () => ["42", ...value()]],
    [1, () => ["42", { repeat: dice.pick(["[", "}", '{"a":']), times: Math.floor(bytes / 5) }]],
    [1, () => ['421["echo",{"a":"', { repeat: "x", times: Math.min(bytes, 65_500) }, '"}]']],
    [1, () => ['421["sync:refresh",{"token":"', ...tokenText(dice, 8_000), '"}]']],
  ]);
}
