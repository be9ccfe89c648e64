/** What the door reads past Node's HTTP server, against what Node's server makes of the same bytes. `PLAIN_SEED` repeats a run. */
import { randomInt } from "node:crypto";
import type { Socket } from "node:net";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import fc from "fast-check";
import { afterAll, beforeAll, expect, onTestFailed, test } from "vitest";
import type { Door } from "../../shared/http/door.ts";
import { PlainExchange, type Exchange } from "../../shared/http/exchange.ts";
import { readPlainRequest } from "../../shared/http/plain-request.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import { eventually } from "../support/eventually.ts";
import { openRaw } from "../support/raw-http.ts";
import { createTestDoor } from "../support/test-door.ts";

let door: Door;
let plain = 0;
/** The door's side of each connection, by the peer's port. */
const accepted = new Map<number | undefined, Socket>();

/** Answers with what it was given: at once, as a peer that has ended its side gets nothing later. */
function serve(exchange: Exchange): void {
  if (exchange instanceof PlainExchange) plain++;
  const { method, url = "", headers, body } = exchange;
  const answer = (bytes: Buffer): void => {
    if (url.startsWith("/hooks/refuse")) return exchange.refuse(new TidegateError("invalid_request", "né"));
    if (url.startsWith("/hooks/none")) return exchange.answer({ status: 204, headers: {} });
    if (url.startsWith("/hooks/close")) exchange.closeAfter();
    const text = JSON.stringify({ method, url, headers: Object.entries(headers), body: bytes.toString("latin1") });
    exchange.answer({ status: 202, headers: { "content-type": "application/json" }, text });
  };
  if (Buffer.isBuffer(body)) return answer(body);
  const chunks: Buffer[] = [];
  body.on("data", (chunk: Buffer) => chunks.push(chunk)).on("end", () => answer(Buffer.concat(chunks)));
}

beforeAll(async () => {
  ({ door } = createTestDoor());
  door.serveFirst({ any: () => serve, plain: () => serve });
  door.app.server.on("connection", (socket) => accepted.set(socket.remotePort, socket));
  await door.start();
});
afterAll(async () => door.stop());

const priming = "POST /hooks/none HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\n{}";

/**
 * Everything that is answered to the bytes until the connection is closed, the time aside.
 * @param isPrimed a request precedes them: that one is always Node's
 */
async function answersTo(bytes: Buffer, { isPrimed = false, cut = 0 } = {}): Promise<string> {
  const connection = openRaw(door.port, isPrimed ? priming : "");
  const { socket, received, closed } = connection;
  if (isPrimed) await eventually(() => received().endsWith("\r\n\r\n"));
  const before = received().length;
  socket.setNoDelay(true);
  if (cut > 0) {
    socket.write(bytes.subarray(0, cut));
    await eventually(() => accepted.get(socket.localPort)?.bytesRead === socket.bytesWritten);
  }
  socket.end(bytes.subarray(cut));
  return (await closed).slice(before).replaceAll(/\r\nDate: [^\r]*/g, "");
}

const token = fc.constantFrom("a", "b", "X", "Y", "0", "9", "-");
const header = fc.oneof(
  {
    weight: 15,
    arbitrary: fc.tuple(fc.string({ unit: token, minLength: 3, maxLength: 12 }), fc.string({ minLength: 1 })),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(
      fc.constantFrom(
        ...[
          "Host",
          "connection",
          "Keep-Alive",
          "Content-Length",
          "Transfer-Encoding",
          "Upgrade",
          "Expect",
          "TE",
          "Cookie",
        ],
        ...["Trailer", "set-cookie", "Proxy-Connection", "__proto__", "constructor", "toString", "a b", "", "x\u00e9"],
      ),
      fc.constantFrom(
        ...["keep-alive", "close", "Upgrade", "chunked", "identity", "100-continue", "0", "1", "02", "test", "a=b", ""],
        ...[" x ", "\tx", "x\t", "\u00e9", "a\u0000b", "a\nb", "a\r b", "x\r\n folded", "keep-alive, x", "Keep-Alive"],
      ),
    ),
  },
);
const plainTargets = ["/hooks/a", "/hooks/a/b?c=%20d&e", "/hooks/refuse", "/hooks/none", "/hooks/close"];
const target = fc.oneof(
  { weight: 9, arbitrary: fc.constantFrom(...plainTargets) },
  fc.constantFrom(
    "//hooks/",
    "/hooks/#a",
    "/hooks/a b",
    "/hooks/\u00e9",
    "http://test/hooks/a",
    "*",
    '/hooks/{}|\\^`"',
  ),
);
const form = fc.record({
  line: fc.oneof(
    { weight: 9, arbitrary: target.map((path) => `POST ${path} HTTP/1.1`) },
    {
      weight: 1,
      arbitrary: fc.constantFrom(
        "POST  /hooks/a HTTP/1.1",
        "POST /hooks/a HTTP/1.0",
        "GET /hooks/a HTTP/1.1",
        "post /hooks/a HTTP/1.1",
      ),
    },
  ),
  headers: fc.array(header, { maxLength: 4 }),
  body: fc.oneof(
    fc.string({ unit: "binary-ascii", minLength: 1, maxLength: 40 }),
    fc.constant(priming),
    fc.constant("x".repeat(6_000)),
  ),
  /** Of the body, for a length that is wrong. */
  more: fc.oneof({ weight: 9, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.integer({ min: -3, max: 3 }) }),
});
const mutation = fc.record({
  kind: fc.constantFrom("set", "insert", "delete", "repeat"),
  at: fc.nat(),
  /** Mostly within the head. */
  within: fc.constantFrom(300, 300, 10_000),
  byte: fc.oneof(
    fc.integer({ min: 0, max: 255 }),
    fc.constantFrom(..."\r\n\t :,;/\0".split("").map((at) => at.charCodeAt(0))),
  ),
});

type Sampled<Arbitrary> = Arbitrary extends fc.Arbitrary<infer Value> ? Value : never;

function bytesOf({ line, headers, body, more }: Sampled<typeof form>): Buffer {
  const lines = [line, "Host: test", ...headers.map(([name, value]) => `${name}: ${value}`)];
  return Buffer.from(`${lines.join("\r\n")}\r\nContent-Length: ${body.length + more}\r\n\r\n${body}`, "latin1");
}

function mutated(bytes: Buffer, { kind, at, within, byte }: Sampled<typeof mutation>): Buffer {
  const place = at % Math.min(bytes.length, within);
  const [before, from] = [bytes.subarray(0, place), bytes.subarray(place)];
  switch (kind) {
    case "set":
      return Buffer.concat([before, Buffer.of(byte), from.subarray(1)]);
    case "insert":
      return Buffer.concat([before, Buffer.of(byte), from]);
    case "delete":
      return Buffer.concat([before, from.subarray(1)]);
    case "repeat":
      return Buffer.concat([before, from.subarray(0, byte), from]);
  }
}

const mutations = fc.oneof(fc.array(mutation, { maxLength: 0 }), fc.array(mutation, { minLength: 1, maxLength: 2 }));
const sample = fc.record({ form, mutations, cut: fc.nat() });

test("DOOR-14: whatever arrives, the answer is that of Node's server to the same bytes", async () => {
  plain = 0;
  let readable = 0;
  const seed = Number(process.env["PLAIN_SEED"] ?? randomInt(2 ** 31));
  onTestFailed(() => void process.stderr.write(`PLAIN_SEED=${seed} repeats this run\n`));
  // Many at a time: the door holds a connection with bad HTTP for half a second.
  const samples = fc.sample(sample, { numRuns: 240, seed });
  const check = async ({ form, mutations, cut }: Sampled<typeof sample>): Promise<void> => {
    const bytes = mutations.reduce(mutated, bytesOf(form));
    const sent = JSON.stringify(bytes.toString("latin1"));
    const [direct, byNode] = await Promise.all([answersTo(bytes, { isPrimed: true }), answersTo(bytes)]);
    expect(direct, sent).toBe(byNode);
    if (!readPlainRequest(bytes)) return;
    readable++;
    const torn = { isPrimed: true, cut: 1 + (cut % (bytes.length - 1)) };
    expect(await answersTo(bytes, torn), sent).toBe(byNode);
  };
  for (let from = 0; from < samples.length; from += 80) await Promise.all(samples.slice(from, from + 80).map(check));
  expect(readable).toBeGreaterThan(10);
  // Torn ones are Node's.
  expect(plain).toBeLessThanOrEqual(readable);
  expect(plain).toBeGreaterThan(readable / 2);
});

test.for([
  ["a request without a host", "POST /hooks/a HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"],
  ["a head that ends in CR and no LF", "POST /hooks/a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\rx{}"],
  [
    "a head of more than 16 KiB",
    `POST /hooks/a HTTP/1.1\r\nHost: a\r\nX: ${"x".repeat(17_000)}\r\nContent-Length: 2\r\n\r\n{}`,
  ],
] as const)("DOOR-14: %s is left to Node's server, which refuses it", async ([, text]) => {
  const bytes = Buffer.from(text);
  expect(readPlainRequest(bytes)).toBeUndefined();
  const [direct, byNode] = await Promise.all([answersTo(bytes, { isPrimed: true }), answersTo(bytes)]);
  expect(direct).toBe(byNode);
  expect(direct).toMatch(/^HTTP\/1\.1 4\d\d /);
});

test("DOOR-14: names of headers that peers make up are not kept", () => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const heapBytes = (): number => {
    collect();
    return process.memoryUsage().heapUsed;
  };
  const readMany = (from: number, to: number): void => {
    for (let at = from; at < to; at++) {
      const headers = Array.from({ length: 60 }, (_, i) => `X-${at}-${i}-${"Y".repeat(40)}: 1\r\n`).join("");
      const head = `POST /hooks/a HTTP/1.1\r\nHost: a\r\n${headers}Content-Length: 2\r\n\r\n`;
      expect(readPlainRequest(Buffer.from(`${head}{}`))).toBeDefined();
    }
  };
  readMany(0, 100);
  const before = heapBytes();
  readMany(100, 3_100);
  expect(heapBytes() - before).toBeLessThan(10 * 1024 * 1024);
});
