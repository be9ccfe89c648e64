/** Publishes at a steady rate to channels in turn; fails over between private APIs. */
import { randomUUID } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { type Tick, tickEvent } from "../clients/crowd-messages.ts";
import type { OwnDeployment } from "./fleet.ts";

const tries = 10;
const retryMs = 200;
const answerWithinMs = 5_000;

export class SteadyPublisher {
  phase = "joining";
  /** Publications that no try under the same id got accepted. */
  failed = 0;
  readonly #deployment: Pick<OwnDeployment, "privateApis" | "privateApiToken">;
  readonly #channels: readonly string[];
  readonly #ends = new Map<string, number>();
  readonly #underWay = new Set<Promise<void>>();
  #timer: NodeJS.Timeout | undefined;

  constructor(
    deployment: Pick<OwnDeployment, "privateApis" | "privateApiToken">,
    options: { channels: readonly string[] },
  ) {
    this.#deployment = deployment;
    this.#channels = options.channels;
  }

  start(perSecond: number): void {
    const startedAt = performance.now();
    let due = 0;
    this.#timer = setInterval(() => {
      for (; due <= ((performance.now() - startedAt) / 1_000) * perSecond; due++) {
        const call = this.#publish(due).finally(() => this.#underWay.delete(call));
        this.#underWay.add(call);
      }
    }, 5);
  }

  /** Resolves once every call is answered. @returns the last offset of each channel. */
  async stop(): Promise<Record<string, number>> {
    clearInterval(this.#timer);
    await Promise.all(this.#underWay);
    return Object.fromEntries(this.#ends);
  }

  async #publish(number: number): Promise<void> {
    const { privateApis, privateApiToken } = this.#deployment;
    const channel = this.#channels[number % this.#channels.length] ?? "";
    const data: Tick = { at: Date.now(), phase: this.phase };
    const body = JSON.stringify({ channel, event: tickEvent, data, id: randomUUID() });
    const headers = { authorization: `Bearer ${privateApiToken}`, "content-type": "application/json" };
    for (let attempt = 0; attempt < tries; attempt++) {
      const url = `${privateApis[(number + attempt) % privateApis.length]}/v1/publish`;
      const offset = await fetch(url, { method: "POST", headers, body, signal: AbortSignal.timeout(answerWithinMs) })
        .then(async (answer) => (answer.ok ? ((await answer.json()) as { offset: number }).offset : undefined))
        .catch(() => undefined);
      if (offset !== undefined) {
        this.#ends.set(channel, Math.max(offset, this.#ends.get(channel) ?? 0));
        return;
      }
      await pause(retryMs);
    }
    this.failed++;
  }
}
