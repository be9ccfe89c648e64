/** The private API's end of one stream, with a gateway that does not take its answers. */
import { EventEmitter } from "node:events";
import type { IncomingMessage, ServerResponse } from "node:http";
import { PassThrough } from "node:stream";
import { expect, onTestFinished, test, vi } from "vitest";
import type { PrivateApiContext } from "../../private-api/node/context.ts";
import { Pauses } from "../../private-api/relay/pauses.ts";
import { RelayAnswerer } from "../../private-api/relay/relay-answerer.ts";
import { AnswerBudget } from "../../shared/services/answer-budget.ts";
import type { AnswerTaker } from "../../shared/services/service-client.ts";
import { eventually } from "../support/eventually.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";

/** The kernel takes each write at the end of the turn, and the gateway takes nothing. */
class StalledResponse extends EventEmitter {
  readonly handle = { bytesWritten: 0, writeQueueSize: 0 };
  readonly socket = { _handle: this.handle };
  destroyed = false;
  writableLength = 0;
  writeHead(): void {}
  flushHeaders(): void {}
  end(): void {}
  destroy(): void {
    this.destroyed = true;
    this.emit("close");
  }
  readonly written: string[] = [];
  write(text: string): boolean {
    this.written.push(text);
    this.writableLength += text.length;
    process.nextTick(() => (this.handle.bytesWritten += text.length));
    return false;
  }
}

/** @param onQuestion in place of the service. */
function stream(onQuestion: (taker: AnswerTaker) => Promise<void>): {
  request: PassThrough;
  response: StalledResponse;
  budget: AnswerBudget;
  answerer: RelayAnswerer;
} {
  const pauses = new Pauses(quietErrors);
  pauses.start();
  onTestFinished(() => pauses.stop());
  const [request, response, budget] = [new PassThrough(), new StalledResponse(), new AnswerBudget()];
  const upstream = {
    answer: async (_question: unknown, _data: string, taker: AnswerTaker) => {
      await onQuestion(taker);
      return { ok: true, data: "1" };
    },
  };
  const context = { upstream, errors: quietErrors, logger: quietLogger } as unknown as PrivateApiContext;
  const answerer = new RelayAnswerer(request as unknown as IncomingMessage, response as unknown as ServerResponse, {
    part: (session) => budget.part("stream", session),
    onHello: () => undefined,
    unreadMs: (since) => pauses.unreadMs(since),
    context,
  });
  return { request, response, budget, answerer };
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

/** Only the timers are the test's. */
function withTimers(): void {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  onTestFinished(() => void vi.useRealTimers());
}

/** Also ends the turn of the event loop in which the last timer runs. */
async function pass(ms: number): Promise<void> {
  await vi.advanceTimersByTimeAsync(ms);
  await new Promise((resolve) => setImmediate(resolve));
}

test("RELAY-2: a frozen gateway delays the stop of a private API by 5 s", async () => {
  withTimers();
  const { response, answerer } = stream(async () => undefined);
  const drained = answerer.drain();
  await pass(4_999);
  expect(response.destroyed).toBe(false);
  await pass(1);
  expect(response.destroyed).toBe(true);
  await drained;
});

test("RELAY-2: a stopping private API answers each question, and waits for a gateway that takes its answers", async () => {
  withTimers();
  const { promise: asked, resolve: ask } = Promise.withResolvers<void>();
  const { promise: decided, resolve: decide } = Promise.withResolvers<void>();
  const { request, response, answerer } = stream(async () => {
    ask();
    await decided;
  });
  request.write(question);
  await asked;
  const drained = answerer.drain();
  await pass(60_000);
  decide();
  await pass(4_999);
  // The gateway takes a part of one large write: Node counts none of it as written yet.
  const untaken = response.writableLength;
  response.handle.bytesWritten++;
  await pass(1);
  await pass(4_999);
  expect([response.destroyed, untaken > 30]).toEqual([false, true]);
  await pass(1);
  expect(response.destroyed).toBe(true);
  await drained;
});

test("RELAY-2: a stopping private API reads a question that arrived while it was busy", async () => {
  withTimers();
  let asked = 0;
  const { request, response, answerer } = stream(async () => void asked++);
  const drained = answerer.drain();
  response.emit("drain");
  await pass(4_999);
  vi.advanceTimersByTime(1);
  request.write(question);
  await pass(4_999);
  expect([asked, response.destroyed]).toEqual([1, false]);
  await pass(1);
  expect(response.destroyed).toBe(true);
  await drained;
});

/** @returns freezes this process, as far as its clock tells. */
function freezable(): (ms: number) => void {
  const running = performance.now.bind(performance);
  let frozenMs = 0;
  const clock = vi.spyOn(performance, "now").mockImplementation(() => running() + frozenMs);
  onTestFinished(() => clock.mockRestore());
  return (ms) => (frozenMs += ms);
}

test("RELAY-4: a process that was frozen sends no call whose time may be over when it wakes", async () => {
  const freeze = freezable();
  let sent = 0;
  const { request, response } = stream(async () => void sent++);
  request.write(question);
  await eventually(() => response.written.length === 1);
  freeze(30_000);
  request.resume().write(question);
  await eventually(() => response.written.length === 2);
  expect(JSON.parse(response.written[1] ?? "")).toMatchObject({
    ok: false,
    error: { code: "upstream_unavailable", retryable: true },
  });
  expect(sent).toBe(1);
});

test("RELAY-4: a pause concerns what came before its end, and is over once that is read", () => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const freeze = freezable();
  const pauses = new Pauses(quietErrors);
  pauses.start();
  const before = performance.now();
  vi.advanceTimersByTime(60_000);
  expect(pauses.unreadMs(before)).toBe(0);
  freeze(30_000);
  expect(pauses.unreadMs(before)).toBe(30_000);
  expect(pauses.unreadMs(performance.now())).toBe(0);
  vi.advanceTimersByTime(500);
  expect(pauses.unreadMs(before)).toBe(30_000);
  vi.advanceTimersByTime(500);
  expect(pauses.unreadMs(before)).toBe(0);
  pauses.stop();
});
