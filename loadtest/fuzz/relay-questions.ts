/** Generates lines that a peer with the relay token sends to the private API, valid and invalid. */
import { relayVersion } from "../../shared/protocol/relay.ts";
import type { Dice } from "./dice.ts";
import type { Conversation, RequestStep, Step } from "./input.ts";
import { brokenText, jsonText, largeText, mutatedParts, objectText, shortString, smallText } from "./json-text.ts";
import { transport } from "./transport.ts";
import type { Part, Parts } from "./parts.ts";
import { bearer } from "./private-door.ts";

const largest = 20_000;

export function relayConversation(dice: Dice): Conversation {
  const lines = dice.list(dice.magnitude(1, 60), () => line(dice));
  const hello = dice.chance(0.9) ? [`{"hello":${relayVersion},"node":"fuzz"}\n`] : [];
  const steps: Step[] = [
    { request: relayRequest([...hello, ...lines.flat()], dice.chance(0.1) ? [] : bearer("relayToken")) },
  ];
  return {
    kind: "conversation",
    door: "private",
    opening: "bare",
    steps,
    ...transport(dice, 20_000),
  };
}

/** One line, to measure its cost. */
export function costlyRelayLine(dice: Dice): Conversation {
  const bytes = dice.magnitude(2_000, 1_000_000);
  const body = dice.weighted<Part[]>([
    [2, () => [...question(dice, {}), "\t", ...largeText(dice, bytes)]],
    [1, () => question(dice, { identity: identity(dice, { claims: largeText(dice, Math.min(bytes, 12_000)) }) })],
    [1, () => largeText(dice, bytes)],
    [1, () => ["{", { count: '"k#":0,', times: Math.floor(bytes / 10) }, '"z":0}\n']],
  ]);
  const request = relayRequest([...body, "\n"], bearer("relayToken"));
  return { kind: "conversation", door: "private", opening: "bare", steps: [{ request }], ending: "answered" };
}

function relayRequest(body: Part[], headers: RequestStep["headers"]): RequestStep {
  return {
    method: "POST",
    target: ["/v1/relay"],
    headers: [["content-type", ["application/x-ndjson"]], ["tidegate-relay", [String(relayVersion)]], ...headers],
    body,
    framing: "chunked",
  };
}

function line(dice: Dice): Part[] {
  const text = dice.weighted<Parts>([
    [20, () => [...question(dice, {}), "\t", ...jsonText(dice, largest)]],
    [2, () => mutatedParts(dice, [...question(dice, {}), "\t", smallText(dice)])],
    [2, () => question(dice, {})],
    [0.3, () => jsonText(dice, largest, 0.1)],
    [0.2, () => brokenText(dice, largest)],
    [0.2, () => ['{"hello":2,"node":"again"}']],
    [0.1, () => [{ repeat: dice.pick(["x", "\t", "é"]), times: dice.magnitude(100_000, 300_000) }]],
  ]);
  return [...text, dice.chance(0.99) ? "\n" : ""];
}

function question(dice: Dice, more: Readonly<Record<string, Parts>>): Part[] {
  const kind = dice.pick(["call", "call", "call", "connect", "subscribe"] as const);
  const own: Record<typeof kind, Record<string, Parts>> = {
    call: {
      event: [
        dice.pick(['"echo"', '"echo"', '"nothing"', '"hostile.none"', '"\\u0000"', '"__proto__"', '"é\\r\\na: b"']),
      ],
      eventId: [dice.pick(['"e1"', '""', '"\\r\\na: b"', '"é"', '"."'])],
    },
    connect: { address: ['"1.2.3.4"'], userAgent: [dice.pick(['""', '"a"', '"\\r\\n"'])] },
    subscribe: { channel: [dice.pick(['"fuzz:1"', '""', '"\\u0000"'])] },
  };
  return objectText(
    dice,
    {
      id: [dice.pick([String(dice.between(1, 1_000)), "0", "-1", "1.5", "9007199254740993"])],
      kind: [`"${kind}"`],
      identity: identity(dice, {}),
      traceparent: [dice.pick(['"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"', '""', '"\\n"', '"é"'])],
      timeoutMs: [dice.pick(["500", "100", "1", "0", "-1", "2147483648", "1.5"])],
      ...own[kind],
      ...more,
    },
    largest,
  );
}

function identity(dice: Dice, more: Readonly<Record<string, Parts>>): Part[] {
  return objectText(
    dice,
    {
      user: [dice.pick(['"fuzz-1"', '""', '"é"', '"\\ud800"', '"a\\r\\nb: c"', '"__proto__"'])],
      sessionId: [dice.pick(['"s1"', '""', '"\\r\\n"', '"é"'])],
      ...(dice.chance(0.3) && { tenant: [dice.pick(['"t"', '""', '"\\n"', "null"])] }),
      claims: [`{"sub":"fuzz-1",${JSON.stringify(shortString(dice))}:${smallText(dice)}}`],
      ...more,
    },
    largest,
  );
}
