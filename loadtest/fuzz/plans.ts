/** The planned answers of the hostile ends: each request carries the number of its answer. */
import type { Socket } from "node:net";
import { setTimeout as pause } from "node:timers/promises";
import type { AnswerStep } from "./input.ts";
import { type Live, render } from "./parts.ts";

/** The number, in the event of a call, the user of a handshake, or the channel of a subscribe. */
const planned = /hostile\.(\d+)"|"hook-(\d+)"|"asked:(\d+)"/;

export class Plans {
  readonly #steps = new Map<number, readonly AnswerStep[]>();
  #last = 0;

  /** @returns the number that requests this answer. */
  add(steps: readonly AnswerStep[]): number {
    this.#steps.set(++this.#last, steps);
    return this.#last;
  }

  remove(number: number): void {
    this.#steps.delete(number);
  }

  /** @param question the text of the request. @returns undefined where nothing is planned. */
  find(question: string): readonly AnswerStep[] | undefined {
    const [, ...numbers] = planned.exec(question) ?? [];
    const number = numbers.find((found) => found !== undefined);
    return number === undefined ? undefined : this.#steps.get(Number(number));
  }
}

/** @param writeLine writes a line in the framing of the protocol */
export async function answer(
  steps: readonly AnswerStep[],
  socket: Socket,
  live: Live,
  writeLine: (line: Buffer) => void,
): Promise<void> {
  for (const step of steps) {
    if (socket.destroyed) return;
    if ("send" in step) socket.write(render(step.send, live));
    else if ("line" in step) writeLine(Buffer.concat([render(step.line, live), newline]));
    else if ("pauseMs" in step) await pause(step.pauseMs);
    else if (step.end === "reset") socket.resetAndDestroy();
    else socket.end();
  }
}

const newline = Buffer.from("\n");
