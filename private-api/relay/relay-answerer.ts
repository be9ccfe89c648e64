import type { IncomingMessage, ServerResponse } from "node:http";
import { takenBytes } from "../../shared/http/taken-bytes.ts";
import { type Line, LineBatcher, LineSplitter } from "../../shared/json/lines.ts";
import * as protocol from "../../shared/protocol/relay.ts";
import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import type { AnswerPart } from "../../shared/services/answer-budget.ts";
import { type CallOutcome, refused } from "../../shared/services/answers.ts";
import type { PrivateApiContext } from "../node/context.ts";
import type { Upstream } from "../upstream/upstream.ts";

/** Answers not yet taken by the gateway; beyond it, its questions are no longer sent to services. */
const maxUntakenBytes = 8 * 1024 * 1024;
/** A gateway that runs ends a drained stream as soon as it reads the request. */
const lastWordMs = 5_000;

/** Reads the questions of one stream and writes their answers. */
export class RelayAnswerer {
  readonly #request: IncomingMessage;
  readonly #response: ServerResponse;
  readonly #part: (session: string) => AnswerPart;
  readonly #upstream: Upstream;
  readonly #errors: ContainedErrors;
  readonly #onHello: (hello: protocol.RelayHello) => void;
  readonly #unreadMs: (since: number) => number;
  /** By `performance.now()` */
  readonly #openedAt = performance.now();
  readonly #batcher = new LineBatcher((lines) => this.#write(lines));
  /** Budget of large answers that the gateway has not taken yet. */
  readonly #untaken = new Set<AnswerPart>();
  #unanswered = 0;
  #allAsked = false;
  #draining = false;
  #cutTimer: NodeJS.Timeout | undefined;

  /** @param options.part a session's part of the budget for answers. */
  constructor(
    request: IncomingMessage,
    response: ServerResponse,
    options: {
      part: (session: string) => AnswerPart;
      onHello: (hello: protocol.RelayHello) => void;
      /** @see Pauses.unreadMs */
      unreadMs: (since: number) => number;
      context: PrivateApiContext;
    },
  ) {
    const { upstream, errors, logger } = options.context;
    this.#request = request;
    this.#response = response;
    this.#part = options.part;
    this.#onHello = options.onHello;
    this.#unreadMs = options.unreadMs;
    this.#upstream = upstream;
    this.#errors = errors;
    response.on("drain", () => request.resume());
    response.on("error", (error) => logger.debug({ err: error }, "relay stream broken"));
    response.once("close", () => {
      this.#stopCutTimer();
      for (const part of this.#untaken) part.release();
    });
    request.on("error", () => response.destroy());
    response.writeHead(200, { "content-type": protocol.relayContentType });
    response.flushHeaders();
    const splitter = new LineSplitter(protocol.maxQuestionLineBytes);
    request.on("data", (chunk: Buffer) => {
      for (const line of splitter.push(chunk)) errors.contain("relay", () => this.#receive(line));
    });
    request.on("end", () => {
      this.#allAsked = true;
      this.#endWhenAnswered();
    });
  }

  /** Asks the gateway to end the stream. Resolves once it is closed, or cut because the gateway is frozen. */
  async drain(): Promise<void> {
    if (this.#response.destroyed) return;
    const closed = new Promise<void>((resolve) => this.#response.once("close", resolve));
    this.#draining = true;
    this.#batcher.add(JSON.stringify({ drain: true }));
    this.#batcher.flush();
    this.#cutWhenFrozen();
    await closed;
  }

  #receive(line: Line): void {
    const read = protocol.readRelayLine(line, protocol.relayFromGateway);
    if (read.kind === "unreadable") return this.#refuse(read.id, read.reason);
    const { head, payload } = read;
    if ("hello" in head) return this.#onHello(head);
    if ((head.kind === "call" || head.kind === "webhook") && payload === undefined) {
      return this.#refuse(head.id, `a ${head.kind} without data`);
    }
    this.#unanswered++;
    this.#stopCutTimer();
    // Its gateway has given it up, or is about to: its client may have done something else since.
    if (this.#unreadMs(this.#openedAt) >= head.timeoutMs) {
      return this.#reply(head.id, refused("upstream_unavailable", "the private API was frozen: not sent"));
    }
    this.#errors.contain("relay", () => this.#answer(head, payload ?? "null"));
  }

  /** Fails the call of this line only. */
  #refuse(id: number | undefined, reason: string): void {
    this.#errors.report("relay", new Error(`a question cannot be read: ${reason}`));
    if (id === undefined) return;
    this.#unanswered++;
    this.#reply(id, refused("upstream_bad_response", `the private API cannot read the question: ${reason}`));
  }

  async #answer(question: protocol.RelayQuestion, data: string): Promise<void> {
    const response = this.#response;
    const part = this.#part(question.identity.sessionId);
    const taker = {
      part,
      get isConnected() {
        return !response.destroyed && response.writableLength < maxUntakenBytes;
      },
    };
    const outcome = await this.#upstream.answer(question, data, taker).catch((error: unknown) => {
      this.#errors.report("relay", error);
      return refused("upstream_failed", "handling the question failed");
    });
    this.#reply(question.id, outcome, part);
  }

  /** @param part of the budget, held until the answer is written. */
  #reply(id: number, outcome: CallOutcome, part?: AnswerPart): void {
    this.#unanswered--;
    const line = outcome.ok
      ? protocol.relayLine(JSON.stringify({ id, ok: true }), outcome.data)
      : protocol.relayLine(JSON.stringify({ id, ok: false, error: outcome.error }), outcome.details);
    if (part?.isLarge) {
      this.#untaken.add(part);
      this.#batcher.flush();
      this.#write(`${line}\n`, () => {
        this.#untaken.delete(part);
        part.release();
      });
    } else {
      part?.release();
      this.#batcher.add(line);
    }
    this.#endWhenAnswered();
  }

  /** Stops reading questions while the gateway does not take its answers. */
  #write(lines: string, written?: () => void): void {
    if (this.#response.destroyed) written?.();
    else if (!this.#response.write(lines, written)) this.#request.pause();
  }

  #endWhenAnswered(): void {
    if (this.#unanswered > 0) return;
    this.#cutWhenFrozen();
    if (!this.#allAsked) return;
    this.#batcher.flush();
    this.#response.end();
  }

  /** While nothing is left to answer, a drained gateway has this long to ask, to end the stream, or to take a part of its answers. */
  #cutWhenFrozen(): void {
    this.#stopCutTimer();
    if (!this.#draining || this.#unanswered > 0 || this.#response.destroyed) return;
    this.#batcher.flush();
    let taken = 0;
    // The response sends what was just written at the end of this turn: the kernel takes that even where the gateway reads nothing.
    process.nextTick(() => (taken = this.#takenBytes));
    const timer = setTimeout(() => {
      // What arrived while this process was busy is read first: the poll phase lies between a timer and an immediate.
      setImmediate(() => {
        if (this.#cutTimer !== timer) return;
        if (this.#takenBytes > taken) this.#cutWhenFrozen();
        else this.#response.destroy();
      });
    }, lastWordMs);
    this.#cutTimer = timer;
  }

  #stopCutTimer(): void {
    clearTimeout(this.#cutTimer);
    this.#cutTimer = undefined;
  }

  get #takenBytes(): number {
    const { socket } = this.#response;
    return socket ? takenBytes(socket) : 0;
  }
}
