/** Generates HTTP requests to the gateway's public and admin ports: bootstrap, polling, upgrades, unknown paths. */
import type { Dice } from "./dice.ts";
import type { Conversation, RequestStep, Step } from "./input.ts";
import { largeText, mutatedParts } from "./json-text.ts";
import { closingPacket, connectPacket, largePacket, sessionPacket } from "./packets.ts";
import { transport } from "./transport.ts";
import type { Part } from "./parts.ts";
import { authorization, type Header, httpConversation, strangeHeader, upgradeHeaders } from "./requests.ts";

const enginePath = "/socket.io/?EIO=4&transport=polling";

export function publicConversation(dice: Dice): Conversation {
  return httpConversation(dice, "public", (dice) =>
    dice.weighted<RequestStep>([
      [6, () => bootstrapRequest(dice)],
      [2, () => upgradeRequest(dice)],
      [3, () => engineRequest(dice)],
      [
        1,
        () =>
          get([
            dice.pick(["/", "/x", "/livez", "/metrics", "/v1/relay", "/favicon.ico", "/socket.io", "/socket.iox/"]),
          ]),
      ],
    ]),
  );
}

export function adminConversation(dice: Dice): Conversation {
  return httpConversation(dice, "admin", (dice) =>
    // Metrics are a long answer: requested less often than the rest, as in production.
    get([
      dice.pick(["/livez", "/livez", "/readyz", "/readyz", "/load", "/load", "/x", "/", dice.pick(["/metrics", "/"])]),
    ]),
  );
}

/** A session over polling: the handshake, bodies with several packets, and an upgrade to a websocket. */
export function pollingConversation(dice: Dice): Conversation {
  const withSession: Part[] = [`${enginePath}&sid=`, { live: "sid" }];
  const poll = (): Step => ({ request: get(withSession) });
  const post = (body: Part[]): Step => ({
    request: { method: "POST", target: withSession, headers: postHeaders(dice), body },
  });
  const steps: Step[] = [{ request: get([enginePath]) }, { listen: true }];
  if (dice.chance(0.8)) {
    const token = dice.chance(0.8) ? ['40{"token":"', { live: "token" as const }, '"}'] : connectPacket(dice, 10_000);
    steps.push(post(token), { listen: true }, poll(), { listen: true });
  }
  for (let left = dice.between(1, 6); left > 0; left--) {
    steps.push(
      dice.weighted<Step>([
        [6, () => post(packetsBody(dice))],
        [2, poll],
        [1, () => ({ request: { ...get(withSession), headers: [...upgradeHeaders] } })],
        [1, () => ({ request: engineRequest(dice) })],
      ]),
    );
    if (dice.chance(0.3)) steps.push({ listen: true });
  }
  return {
    kind: "conversation",
    door: "public",
    opening: "bare",
    steps,
    ...transport(dice, 5_000),
  };
}

/** One request, to measure its cost. */
export function costlyPublicRequest(dice: Dice): Conversation {
  const request = dice.weighted<RequestStep>([
    [2, () => ({ ...bootstrapRequest(dice), ...(dice.chance(0.5) && { headers: flood(dice) }) })],
    [1, () => ({ ...upgradeRequest(dice), headers: [...upgradeHeaders, ...flood(dice)] })],
    [
      1,
      () => ({
        ...get([
          "/socket.io/?",
          { repeat: dice.pick(["a=b&", "EIO=4&", "sid=&", "%41"]), times: dice.magnitude(10, 3_500) },
        ]),
      }),
    ],
    [1, () => get([{ repeat: dice.pick(["/", "/a", "/..", "%2e"]), times: dice.magnitude(10, 5_000) }])],
    [1, () => ({ method: "POST", target: ["/v1/bootstrap"], headers: [], body: largeText(dice, 60_000) })],
  ]);
  return { kind: "conversation", door: "public", opening: "bare", steps: [{ request }], ending: "answered" };
}

export function costlyAdminRequest(dice: Dice): Conversation {
  const request = dice.weighted<RequestStep>([
    [2, () => get([dice.pick(["/metrics", "/livez", "/readyz", "/load"])])],
    [1, () => ({ ...get(["/livez"]), headers: flood(dice) })],
    [
      1,
      () => ({
        method: "POST",
        target: ["/livez"],
        headers: [["content-type", ["application/json"]]],
        body: largeText(dice, 64_000),
      }),
    ],
  ]);
  return { kind: "conversation", door: "admin", opening: "bare", steps: [{ request }], ending: "answered" };
}

/** One POST of a polling session, before or after authentication. */
export function costlyPolling(dice: Dice): Conversation {
  const withSession: Part[] = [`${enginePath}&sid=`, { live: "sid" }];
  const post = (body: Part[]): Step => ({
    request: { method: "POST", target: withSession, headers: postHeaders(dice), body },
  });
  const authenticated = dice.chance(0.5);
  const body = dice.weighted<Part[]>([
    [2, () => largePacket(dice, authenticated)],
    [
      2,
      () => [
        {
          repeat: `${dice.pick(["3", "6", "4", "42[]", '42["a"]', '421["echo",0]', "40", "b", "bAA==", ""])}\u001e`,
          times: dice.magnitude(100, 150_000),
        },
        "3",
      ],
    ],
  ]);
  const enter: Step[] = authenticated
    ? [
        post(['40{"token":"', { live: "token" }, '"}']),
        { listen: true },
        { request: get(withSession) },
        { listen: true },
      ]
    : [];
  return {
    kind: "conversation",
    door: "public",
    opening: "bare",
    steps: [{ request: get([enginePath]) }, { listen: true }, ...enter, { ready: true }, post(body)],
    ending: "answered",
  };
}

function bootstrapRequest(dice: Dice): RequestStep {
  const query = dice.weighted<Part[]>([
    [2, () => []],
    [3, () => [`?client=${dice.between(0, 99)}`]],
    [
      1,
      () => [
        dice.pick([
          "?client=",
          "?client=a&client=b",
          "?client[]=a",
          "?client[a]=b",
          "?__proto__=a",
          "?client=%ff",
          "?x=1",
          "??",
        ]),
      ],
    ],
    [0.5, () => ["?client=", { repeat: dice.pick(["a", "%41", "é"]), times: dice.magnitude(1, 4_000) }]],
  ]);
  const method = dice.chance(0.9) ? "GET" : "OPTIONS";
  return { method, target: ["/v1/bootstrap", ...query], headers: authorization(dice) };
}

/** Also to paths that accept no upgrade. */
function upgradeRequest(dice: Dice): RequestStep {
  const target = dice.pick([
    ...[
      "/x",
      "/socket.iox/",
      "/v1/bootstrap",
      "/",
      "/socket.io/?EIO=4&transport=websocket",
      "/socket.io/?EIO=3&transport=websocket",
    ],
    ...[
      "/socket.io/?EIO=4&transport=websocket&sid=nobody",
      "/socket.io/?transport=x",
      "/socket.io/?EIO=4&transport=websocket&b64=1",
    ],
  ]);
  const headers = [...upgradeHeaders].map((header) => (dice.chance(0.15) ? strangeHeader(dice) : header));
  return get([target], dice.chance(0.3) ? [...headers, strangeHeader(dice)] : headers);
}

function engineRequest(dice: Dice): RequestStep {
  const target = dice.pick([
    ...[
      enginePath,
      "/socket.io/",
      "/socket.io/?EIO=3&transport=polling",
      `${enginePath}&sid=nobody`,
      `${enginePath}&j=0`,
    ],
    ...[
      `${enginePath}&sid=&sid=a`,
      `${enginePath}&sid=__proto__`,
      "/socket.io/?EIO=4&transport=websocket",
      `${enginePath}&b64=1`,
    ],
    ...[
      "/socket.io/?EIO=4&transport=webtransport",
      "/socket.io/?EIO=4&transport=__proto__",
      `${enginePath}&t=${dice.between(0, 9)}`,
    ],
  ]);
  const body = dice.chance(0.4) ? packetsBody(dice) : undefined;
  return {
    method: body ? "POST" : dice.pick(["GET", "GET", "OPTIONS", "PUT"]),
    target: dice.chance(0.8) ? [target] : mutatedParts(dice, [target]),
    headers: dice.chance(0.3) ? [strangeHeader(dice)] : [],
    ...(body && { body }),
  };
}

/** Several packets of Engine.IO in one body. */
function packetsBody(dice: Dice): Part[] {
  const count = dice.magnitude(1, 20);
  return dice
    .list(count, () => (dice.chance(0.85) ? sessionPacket(dice, 5_000) : closingPacket(dice, 5_000)))
    .flatMap((packet, index) => (index === 0 ? packet : [dice.chance(0.97) ? "\u001e" : "", ...packet]));
}

function postHeaders(dice: Dice): Header[] {
  const type = dice.pick([
    "text/plain;charset=UTF-8",
    "text/plain",
    "application/octet-stream",
    "application/json",
    "",
  ]);
  return [["content-type", [type]]];
}

function flood(dice: Dice): Header[] {
  return dice.chance(0.5)
    ? dice.list(dice.magnitude(10, 2_000), (i): Header => [`x-${i}`, ["a"]])
    : [
        [
          dice.pick(["x-forwarded-for", "cookie", "authorization", "origin", "host"]),
          [{ repeat: dice.pick(["1.2.3.4,", "a=b;", "a", ","]), times: dice.magnitude(10, 3_000) }],
        ],
      ];
}

function get(target: Part[], headers: Header[] = []): RequestStep {
  return { method: "GET", target, headers };
}
