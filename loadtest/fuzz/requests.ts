/** The parts of HTTP conversations: headers, bodies and framing, valid and strange. */
import type { Dice } from "./dice.ts";
import type { Conversation, Door, RequestStep, Step } from "./input.ts";
import { brokenText, jsonText, mutatedParts, mutatedText } from "./json-text.ts";
import { transport } from "./transport.ts";
import type { Part, Parts } from "./parts.ts";
import { tokenText } from "./tokens.ts";

export type Header = [name: string, value: Part[]];

const methods = [
  "GET",
  "POST",
  "PUT",
  "DELETE",
  "PATCH",
  "HEAD",
  "OPTIONS",
  "CONNECT",
  "TRACE",
  "PROPFIND",
  "get",
  "QUERY",
];

const pathInserts = [
  ...[
    "%",
    "%00",
    "%E0%A4%A",
    "%2e%2e/",
    "/../",
    "//",
    "/./",
    "?",
    "#",
    ";",
    "\\",
    "%2f",
    "é",
    "*",
    "..",
    "%c0%af",
    "%ff",
  ],
  ...["{", "}", "|", "^", "<", ">", "'", "~", "$&", "$1", "$`", "__proto__", "constructor"],
];

const strangeHeaders: readonly (readonly [string, readonly string[]])[] = [
  ["host", ["", "a b", "a,b", "[::1]", "localhost:99999", "evil.example", "a".repeat(300), "😀"]],
  ["connection", ["close", "keep-alive", "upgrade", "Upgrade, close", "content-length", "x".repeat(500)]],
  ["upgrade", ["websocket", "h2c", "websocket, h2c", "TLS/1.0", "WebSocket", "", "foo/2"]],
  ["expect", ["100-continue", "200-ok", ""]],
  ["transfer-encoding", ["chunked", "gzip", "gzip, chunked", "chunked, chunked", "identity", "x"]],
  ["content-length", ["0", "1", "-1", "1e3", "+5", " 5", "0x10", "99999999999999999999", "5, 5", ""]],
  [
    "content-type",
    ["", "application/json; charset=utf-16", "text/plain", "application/x-ndjson", "application/yaml", "a/b; c=d; e"],
  ],
  ["content-encoding", ["gzip", "br", "identity", "deflate, gzip"]],
  ["accept-encoding", ["gzip", "*;q=0", "x".repeat(1_000)]],
  ["authorization", ["", "Bearer", "Bearer ", "Basic YTpi", "bearer a b", `Bearer ${"a".repeat(9_000)}`, "Bearer 😀"]],
  ["origin", ["null", "http://evil.example", "", "https://a\u0000b", "*"]],
  [
    "x-forwarded-for",
    [
      "1.2.3.4",
      "1.2.3.4, 5.6.7.8",
      "::1",
      "::ffff:1.2.3.4",
      "unknown",
      ",,,",
      "a".repeat(2_000),
      "999.1.1.1",
      "1.2.3.4:80",
      "[::1]:80",
      "fe80::1%eth0",
    ],
  ],
  ["x-forwarded-proto", ["https", "javascript", "http, https", ""]],
  ["x-forwarded-host", ["evil.example", ""]],
  ["if-match", ['"0"', '"1"', "*", 'W/"1"', '"99999999999999999"', "a"]],
  ["cookie", ["a=b", "a".repeat(4_000), "=;=;="]],
  ["range", ["bytes=0-", "bytes=a"]],
  ["sec-websocket-version", ["13", "8", "0", "13, 8", ""]],
  ["sec-websocket-key", ["AAAAAAAAAAAAAAAAAAAAAA==", "", "a", "A".repeat(200)]],
  ["sec-websocket-extensions", ["permessage-deflate", "permessage-deflate; a=b; c", ";;;", "x".repeat(500)]],
  ["sec-websocket-protocol", ["a", "a, b", "a b", ",", ""]],
  ["traceparent", ["00-0-0-0", "x"]],
  ["user-agent", ["", "é", "a".repeat(5_000)]],
  ["", [""]],
  ["a b", ["c"]],
  ["x\u0000y", ["z"]],
  ["__proto__", ["a"]],
  ["constructor", ["a"]],
];

export const upgradeHeaders: readonly Header[] = [
  ["connection", ["Upgrade"]],
  ["upgrade", ["websocket"]],
  ["sec-websocket-version", ["13"]],
  ["sec-websocket-key", ["dGhlIHNhbXBsZSBub25jZQ=="]],
];

export function strangeHeader(dice: Dice): Header {
  const [name, values] = dice.pick(strangeHeaders);
  return [name, [dice.chance(0.85) ? dice.pick(values) : mutatedText(dice, dice.pick(values))]];
}

/** An `authorization` header of a client or a service, or none. */
export function authorization(dice: Dice): Header[] {
  return dice.weighted<Header[]>([
    [2, () => []],
    [3, () => [["authorization", ["Bearer ", ...tokenText(dice, 10_000)]]]],
    [1, () => [strangeHeader(dice)]],
  ]);
}

/** Changes a few things about a valid request. */
export function mutatedRequest(dice: Dice, request: RequestStep): RequestStep {
  let { method, target, headers, body, framing } = request;
  if (dice.chance(0.06)) method = dice.pick(methods);
  if (dice.chance(0.12)) target = mutatedTarget(dice, target);
  if (dice.chance(0.15)) headers = [...headers, ...dice.list(dice.between(1, 3), () => strangeHeader(dice))];
  if (dice.chance(0.05)) headers = headers.filter(() => dice.chance(0.5));
  if (dice.chance(0.004)) headers = [...headers, ["x-flood", [{ repeat: "a", times: dice.magnitude(10, 40_000) }]]];
  if (dice.chance(0.004))
    headers = [...headers, ...dice.list(dice.magnitude(10, 3_000), (i): Header => [`x-${i}`, ["a"]])];
  if (body && dice.chance(0.15)) body = mutatedParts(dice, body);
  else if (dice.chance(0.05)) body = dice.chance(0.5) ? jsonText(dice, 100_000, 0.1) : brokenText(dice, 100_000);
  if (body && dice.chance(0.1)) framing = "chunked";
  return { method, target, headers, ...(body && { body }), ...(framing !== undefined && { framing }) };
}

/** A mutated request; where its head may be malformed, mostly behind the answers to the requests before it. */
export function mutatedSteps(dice: Dice, request: RequestStep): Step[] {
  const mutated = mutatedRequest(dice, request);
  const { method, target, headers } = mutated;
  const isHeadGood = method === request.method && target === request.target && headers === request.headers;
  return isHeadGood ? [{ request: mutated }] : behindAnswers(dice, { request: mutated });
}

/**
 * A malformed head ends the connection, and with it the answers that are still due: those requests would be handled without
 * being counted. A fifth of them come at once all the same.
 */
function behindAnswers(dice: Dice, step: Step): Step[] {
  return dice.chance(0.8) ? [{ ready: true }, step] : [step];
}

/** Its head contradicts its body: it is the last request of its connection. */
export function misframedRequest(dice: Dice, request: RequestStep): RequestStep {
  const body = request.body ?? ["{}"];
  const framing = dice.weighted<RequestStep["framing"]>([
    [1, () => "none"],
    [3, () => dice.pick([0, 1, 5, 1_000, 65_536, 1_048_576, 1_048_577, 4_294_967_296, Number.MAX_SAFE_INTEGER])],
  ]);
  return { ...request, body, ...(framing !== undefined && { framing }) };
}

function mutatedTarget(dice: Dice, target: Parts): Part[] {
  return dice.weighted<Part[]>([
    [4, () => [...target, dice.pick(pathInserts)]],
    [3, () => mutatedParts(dice, target)],
    [1, () => [dice.pick(pathInserts), ...target]],
    [1, () => [...target, "?", { count: "k#=#&", times: dice.magnitude(1, 1_500) }]],
    [1, () => [...target, { repeat: dice.pick(["a", "/", "%20", "é"]), times: dice.magnitude(1, 10_000) }]],
    [1, () => [`http://evil.example`, ...target]],
    [0.5, () => ["*"]],
  ]);
}

/** Bytes that are no request. */
export function noRequest(dice: Dice): Step {
  const text = dice.pick([
    ...[
      "\r\n\r\n",
      "GET",
      "GET / HTTP/1.1",
      "GET / HTTP/9.9\r\n\r\n",
      "GET / HTTP/0.9\r\n\r\n",
      "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ...[
      "\u0016\u0003\u0001\u0002\u0000\u0001\u0000",
      "GET  / HTTP/1.1\r\n\r\n",
      "GET / HTTP/1.1\nhost: a\n\n",
      "\u0000\u0000\u0000",
    ],
    ...[
      "GET / HTTP/1.1\r\nhost: a\r\n folded: b\r\n\r\n",
      "GET / HTTP/1.1\r\n: a\r\n\r\n",
      "GET / HTTP/1.1\r\nhost : a\r\n\r\n",
    ],
    ...[
      "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n",
      "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n",
    ],
    ...["POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n1\r\na\r\n0\r\n\r\n"],
    ...["POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1;a=b\r\na\r\n0\r\nx: y\r\n\r\n"],
  ]);
  return { send: [dice.chance(0.5) ? text : mutatedText(dice, text)] };
}

/** More pipelined requests close the connection. */
const maxPipelined = 15;

/**
 * Several pipelined requests on one connection; the last one may be broken.
 *
 * @param refused makes requests that are refused before their body is read, which ends the connection
 */
export function httpConversation(
  dice: Dice,
  door: Door,
  makeRequest: (dice: Dice) => RequestStep,
  refused?: (dice: Dice) => RequestStep,
): Conversation {
  const count = dice.chance(0.02) ? dice.between(maxPipelined, 40) : dice.magnitude(2, maxPipelined);
  const steps = dice.list(count, () => mutatedSteps(dice, makeRequest(dice))).flat();
  if (refused && dice.chance(0.3)) steps.push(...mutatedSteps(dice, refused(dice)));
  if (dice.chance(0.04)) steps.splice(dice.between(0, steps.length), 0, { pauseMs: dice.magnitude(1, 300) });
  const last = dice.next();
  if (last < 0.15) steps.push(...behindAnswers(dice, { request: misframedRequest(dice, makeRequest(dice)) }));
  else if (last < 0.3) steps.push(...behindAnswers(dice, noRequest(dice)));
  return {
    kind: "conversation",
    door,
    opening: "bare",
    steps,
    ...transport(dice, 5_000),
  };
}
