import fc from "fast-check";
import { expect, test } from "vitest";
import { callAckFrame } from "../../gateway/outbox/frames.ts";
import { LineSplitter } from "../../shared/json/lines.ts";
import {
  maxAnswerLineBytes,
  readRelayLine,
  readWebhookReply,
  relayFromGateway,
  relayFromPrivateApi,
  relayLine,
} from "../../shared/protocol/relay.ts";

const json = fc.jsonValue({ maxDepth: 5 }).map((value) => JSON.stringify(value));
const answer = fc.oneof(
  fc.tuple(fc.nat(), json).map(([id, data]) => relayLine(JSON.stringify({ id, ok: true }), data)),
  fc
    .tuple(fc.nat(), fc.string(), fc.option(json, { nil: undefined }))
    .map(([id, message, details]) =>
      relayLine(JSON.stringify({ id, ok: false, error: { code: "own", message, retryable: false } }), details),
    ),
);
/** A line with a part replaced by random bytes. */
const mutated = fc
  .tuple(answer, fc.nat(), fc.nat({ max: 10 }), fc.uint8Array({ maxLength: 10 }))
  .map(([line, at, cut, part]) => {
    const bytes = Buffer.from(line);
    const from = at % bytes.length;
    return Buffer.concat([bytes.subarray(0, from), part, bytes.subarray(from + cut)]);
  });

test("RELAY-5: reading any line does not throw", () => {
  const anything = fc.oneof(
    mutated,
    fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
  );
  fc.assert(
    fc.property(anything, fc.boolean(), (bytes, cut) => {
      expect(["read", "unreadable"]).toContain(readRelayLine({ bytes, cut }, relayFromPrivateApi).kind);
      expect(["read", "unreadable"]).toContain(readRelayLine({ bytes, cut }, relayFromGateway).kind);
    }),
    { numRuns: 5_000 },
  );
});

test("RELAY-5: a line that is cut is unreadable, also where what is left of it is whole", () => {
  const bytes = Buffer.from('{"id":7,"ok":true}\t1   ');
  expect(readRelayLine({ bytes, cut: false }, relayFromPrivateApi)).toMatchObject({ kind: "read" });
  expect(readRelayLine({ bytes, cut: true }, relayFromPrivateApi)).toMatchObject({ kind: "unreadable", id: 7 });
});

test("SRC-9: an answer for a provider whose content type cannot be a header is none", () => {
  const reply = (contentType: string): string => JSON.stringify({ status: 200, body: "", contentType });
  expect(readWebhookReply(reply("text/plain; charset=utf-8"))).toMatchObject({ status: 200 });
  for (const bad of ["", "text/plain\nx: y", "text/plain; x=\u0100"])
    expect(readWebhookReply(reply(bad))).toBeUndefined();
});

test("CALL-15: an ack built around the text of any line is one JSON value", () => {
  fc.assert(
    fc.property(
      fc.oneof(
        mutated,
        answer.map((line) => Buffer.from(line)),
      ),
      (bytes) => {
        const [line] = new LineSplitter(maxAnswerLineBytes).push(Buffer.concat([bytes, Buffer.from("\n")]));
        if (!line) return;
        const read = readRelayLine(line, relayFromPrivateApi);
        if (read.kind !== "read" || "drain" in read.head || read.payload === undefined) return;
        const { head, payload } = read;
        const value: unknown = JSON.parse(payload);
        const outcome = head.ok
          ? { ok: true as const, data: payload }
          : { ok: false as const, error: head.error, details: payload };
        const { packet } = callAckFrame(7, outcome);
        const [ack, ...others] = JSON.parse(packet.slice("37".length)) as {
          data?: unknown;
          error?: { details: unknown };
        }[];
        expect(others).toEqual([]);
        expect(head.ok ? ack?.data : ack?.error?.details).toEqual(value);
      },
    ),
    { numRuns: 5_000 },
  );
});
