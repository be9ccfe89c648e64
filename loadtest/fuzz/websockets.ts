/** Generates conversations over a websocket: frames of every kind, before and after authentication. */
import type { Dice } from "./dice.ts";
import { scalarText } from "./json-text.ts";
import type { Conversation, FrameStep, Step } from "./input.ts";
import { transport } from "./transport.ts";
import { closingPacket, connectPacket, largePacket, maxMessageBytes, sessionPacket } from "./packets.ts";
import { fullChannel, grantedNamespace } from "./names.ts";
import type { Part } from "./parts.ts";

/** Below the flood limit of a connection. */
const maxFrames = 1_200;
const framesPerMark = 40;
/** Nearly all messages are small: a large one costs as much as hundreds of small ones. */
const largest = 20_000;

export function websocketConversation(dice: Dice): Conversation {
  if (dice.chance(0.01)) return deafConversation(dice);
  const opening = dice.chance(0.25) ? "websocket" : "session";
  const steps = opening === "session" ? sessionSteps(dice) : earlySteps(dice);
  for (let left = dice.between(0, 3); left > 0; left--) steps.push(closingStep(dice));
  return {
    kind: "conversation",
    door: "public",
    opening,
    steps,
    ...transport(dice, 50_000),
  };
}

/** A client that requests much and reads nothing. */
function deafConversation(dice: Dice): Conversation {
  const asking = ['"sync:history"', '"sync:subscribe"', '"sync:presence"', '"echo"', '"nothing"'] as const;
  const steps: Step[] = [
    { text: [`421["sync:subscribe",{"channel":"${fullChannel}"}]`] },
    { ready: true },
    { deaf: true },
  ];
  for (let left = dice.magnitude(10, 400); left > 0; left--) {
    steps.push({ text: [`42${left}[${dice.pick(asking)},{"channel":"${fullChannel}"}]`] });
  }
  steps.push({ pauseMs: dice.magnitude(10, 2_000) });
  return {
    kind: "conversation",
    door: "public",
    opening: "session",
    steps,
    ending: dice.pick(["reset", "half-close"]),
  };
}

/** One message on its own connection, to measure its cost. */
export function costlyWebsocket(dice: Dice): Conversation {
  if (dice.chance(0.1)) return costlyRequest(dice);
  const opening = dice.chance(0.4) ? "websocket" : "session";
  const payload = largePacket(dice, opening === "session");
  const step: Step = dice.weighted<Step>([
    [12, () => ({ text: payload })],
    [1, () => ({ opcode: 2, payload })],
  ]);
  return { kind: "conversation", door: "public", opening, steps: [step], ending: "answered" };
}

/** A small request that causes much work. */
function costlyRequest(dice: Dice): Conversation {
  const full = `"channel":"${fullChannel}"`;
  const fromStart: Part[] = [
    `421["sync:subscribe",{${full},"position":{"epoch":"`,
    { live: "epoch" },
    '","offset":0}}]',
  ];
  const [prelude, request] = dice.pick<[Part[][], Part[]]>([
    [[[`421["sync:subscribe",{${full}}]`]], [`422["sync:history",{${full},"limit":1000}]`]],
    [[[`421["sync:subscribe",{${full}}]`]], fromStart],
    [[[`421["sync:subscribe",{${full}}]`]], [`422["sync:presence",{${full}}]`]],
    [
      dice.list(200, (i) => [`42${i}["sync:subscribe",{"channel":"${grantedNamespace}:${i}"}]`]),
      ['42999["sync:refresh",{"token":"', { live: "sameToken" }, '"}]'],
    ],
    [dice.list(200, (i) => [`42${i}["sync:subscribe",{"channel":"fuzz:${i}"}]`]), ["41"]],
  ]);
  const steps: Step[] = [...prelude.map((text) => ({ text })), { pauseMs: 500 }, { ready: true }, { text: request }];
  return { kind: "conversation", door: "public", opening: "session", steps, ending: "answered" };
}

function sessionSteps(dice: Dice): Step[] {
  const steps: Step[] = [];
  const count = dice.magnitude(20, maxFrames);
  const size = (): number => (dice.chance(0.005) ? maxMessageBytes : largest);
  for (let sent = 1; sent <= count; sent++) {
    steps.push(dice.chance(0.01) ? harmlessFrame(dice) : { text: sessionPacket(dice, size()) });
    if (sent % framesPerMark === 0 || sent === count) steps.push({ mark: true });
    if (dice.chance(0.004)) steps.push({ listen: true });
  }
  return steps;
}

/** Before authentication: at most five CONNECT packets. */
function earlySteps(dice: Dice): Step[] {
  const steps: Step[] = [];
  for (let left = dice.between(0, 5); left > 0; left--) {
    steps.push({ text: connectPacket(dice, largest) });
    if (dice.chance(0.3)) steps.push(harmlessFrame(dice));
    if (dice.chance(0.1)) steps.push({ listen: true });
  }
  return [...steps, { mark: true }];
}

/** A frame that Engine.IO ignores. */
function harmlessFrame(dice: Dice): Step {
  return dice.weighted<Step>([
    [2, () => ({ opcode: 9, payload: [dice.pick(["", "a", "é", "x".repeat(125)])] })],
    [2, () => ({ opcode: 10, payload: [dice.pick(["", "a", "x".repeat(125)])] })],
    [2, () => ({ text: ["3"] })],
    [1, () => ({ text: ["6"] })],
    [1, () => ({ opcode: 1, payload: ["3"], lengthBytes: dice.pick([2, 8] as const) })],
  ]);
}

function closingStep(dice: Dice): Step {
  return dice.weighted<Step>([
    [5, () => ({ text: closingPacket(dice, dice.chance(0.1) ? maxMessageBytes + 1_000 : largest) })],
    [3, () => anyFrame(dice)],
    [1, () => ({ opcode: 2, payload: anyBytes(dice) })],
    [1, () => closeFrame(dice)],
    [1, () => ({ send: anyBytes(dice) })],
    [0.5, () => ({ send: ["GET /livez HTTP/1.1\r\nhost: a\r\n\r\n"] })],
  ]);
}

function anyFrame(dice: Dice): FrameStep {
  const payload = dice.chance(0.5) ? anyBytes(dice) : sessionPacket(dice, 1_000);
  return {
    opcode: dice.between(0, 15),
    payload,
    ...(dice.chance(0.3) && { fin: false }),
    ...(dice.chance(0.15) && { rsv: dice.between(1, 7) }),
    ...(dice.chance(0.15) && { masked: false }),
    ...(dice.chance(0.15) && {
      claims: dice.pick([0, 1, 125, 126, 65_535, 65_536, 397_313, 2 ** 31, 2 ** 32, Number.MAX_SAFE_INTEGER]),
    }),
    ...(dice.chance(0.1) && { lengthBytes: dice.pick([2, 8] as const) }),
  };
}

function closeFrame(dice: Dice): FrameStep {
  const code = dice.pick(["03e8", "03e9", "03ed", "03ee", "03f7", "0000", "ffff", "0bb8", "1388", "03", ""]);
  const payload: Part[] = [{ hex: code }, dice.pick(["", "bye", "x".repeat(123), "x".repeat(200)])];
  return { opcode: 8, payload: dice.chance(0.2) ? [...payload, { hex: "c328ff" }] : payload };
}

function anyBytes(dice: Dice): Part[] {
  return dice.weighted<Part[]>([
    [
      3,
      () => [
        { hex: dice.list(dice.between(0, 40), () => dice.between(0, 255).toString(16).padStart(2, "0")).join("") },
      ],
    ],
    [1, () => [{ hex: dice.pick(["c328", "eda080", "f4908080", "c0af", "fe", "ff", "efbfbf", "f0"]) }]],
    [1, () => [scalarText(dice)]],
    [0.3, () => [{ repeat: dice.pick(["\u0000", "a", "é"]), times: dice.magnitude(1, 50_000) }]],
  ]);
}
