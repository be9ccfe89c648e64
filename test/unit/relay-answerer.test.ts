/** The private API's end of one stream, with a gateway that does not take its answers. */
import { EventEmitter } from "node:events";
import type { IncomingMessage, ServerResponse } from "node:http";
import { PassThrough } from "node:stream";
import { expect, test } from "vitest";
import type { PrivateApiContext } from "../../private-api/node/context.ts";
import { RelayAnswerer } from "../../private-api/relay/relay-answerer.ts";
import { AnswerBudget } from "../../shared/services/answer-budget.ts";
import type { AnswerTaker } from "../../shared/services/service-client.ts";
import { eventually } from "../support/eventually.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";

/** Takes nothing. */
class StalledResponse extends EventEmitter {
  destroyed = false;
  writableLength = 0;
  writeHead(): void {}
  flushHeaders(): void {}
  end(): void {}
  write(text: string): boolean {
    this.writableLength += text.length;
    return false;
  }
}

/** @param onQuestion in place of the service. */
function stream(onQuestion: (taker: AnswerTaker) => Promise<void>): {
  request: PassThrough;
  response: StalledResponse;
  budget: AnswerBudget;
} {
  const [request, response, budget] = [new PassThrough(), new StalledResponse(), new AnswerBudget()];
  const upstream = {
    answer: async (_question: unknown, _data: string, taker: AnswerTaker) => {
      await onQuestion(taker);
      return { ok: true, data: "1" };
    },
  };
  const context = { upstream, errors: quietErrors, logger: quietLogger } as unknown as PrivateApiContext;
  void new RelayAnswerer(request as unknown as IncomingMessage, response as unknown as ServerResponse, {
    part: (session) => budget.part("stream", session),
    context,
  });
  return { request, response, budget };
}

const question = `${JSON.stringify({
  id: 1,
  kind: "call",
  event: "work",
  eventId: "an-id",
  identity: { user: "ada", sessionId: "one", claims: {} },
  traceparent: "00-0",
  timeoutMs: 1_000,
})}\t1\n`;

test("RELAY-8: while 8 MiB of answers are not taken, calls of the stream are not sent", async () => {
  const connected: boolean[] = [];
  const { request, response } = stream(async (taker) => void connected.push(taker.isConnected));
  request.write(question);
  await eventually(() => connected.length === 1);
  response.writableLength = 8 * 1024 * 1024;
  request.resume().write(question);
  await eventually(() => connected.length === 2);
  expect(connected).toEqual([true, false]);
});

test("RELAY-8: a stream whose answers are not taken is read no further until they are", async () => {
  const { request, response } = stream(async () => undefined);
  request.write(question);
  await eventually(() => request.isPaused());
  response.emit("drain");
  expect(request.isPaused()).toBe(false);
});

test("RELAY-8: large answers that a lost gateway has not taken give their room back", async () => {
  const { request, response, budget } = stream(async ({ part }) => void (await part.grow("work", 1_000)));
  request.write(question);
  await eventually(() => response.writableLength > 0);
  expect(budget.taken).toBe(1);
  response.emit("close");
  expect(budget.taken).toBe(0);
});
