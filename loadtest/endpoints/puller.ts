/** Follows the change log by `GET /v1/changes`, from any private API; some answers are lost on the way. */
import { setTimeout as pause } from "node:timers/promises";
import { call, type PrivateApiAddress, problem } from "../checker/private-api.ts";
import { type Expectation, Findings } from "./delivery-ledger.ts";
import { type LoggedChange, nameOf } from "./log.ts";
import type { ReaderVerdict } from "./violations.ts";

const retryMs = 100;
const maxWaitMs = 2_000;
/** Part of the answers that the puller drops: it asks again from the cursor before. */
const lostPart = 0.1;

interface Answer {
  readonly changes: readonly (PulledChange | { readonly gap: object })[];
  readonly cursor: string;
}

interface PulledChange {
  readonly channel: string;
  readonly epoch: string;
  readonly offset: number;
  readonly data: { readonly item: string; readonly key: string };
  readonly at: number;
}

export class Puller {
  readonly #apis: readonly PrivateApiAddress[];
  readonly #channels: readonly string[];
  readonly #random: () => number;
  readonly #changes: LoggedChange[] = [];
  #cursor = "";
  #gaps = 0;

  /** @param options.random from 0 to 1: draws the private API, and how much is asked for */
  constructor(options: { apis: readonly PrivateApiAddress[]; channels: readonly string[]; random: () => number }) {
    this.#apis = options.apis;
    this.#channels = options.channels;
    this.#random = options.random;
  }

  /** Where the log ends now. */
  async start(): Promise<void> {
    this.#cursor = (await this.#ask({ cursor: "end" })).cursor;
  }

  /** Pulls until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const limit = 1 + Math.floor(this.#random() * 200);
      const waitMs = Math.floor(this.#random() * maxWaitMs);
      const answer = await this.#ask({ cursor: this.#cursor, limit, waitMs }).catch(() => undefined);
      if (answer && this.#random() >= lostPart) this.#take(answer);
      if (!answer) await pause(retryMs, undefined, { signal }).catch(() => undefined);
    }
  }

  /** Everything after a cursor, as the log has it now. @throws where the log cannot be read */
  async whole(cursor: string): Promise<readonly LoggedChange[]> {
    const changes: LoggedChange[] = [];
    for (let at = cursor; ;) {
      const answer = await this.#ask({ cursor: at });
      changes.push(...answer.changes.flatMap((each) => ("gap" in each ? [] : logged(each))));
      if (answer.changes.length === 0) return changes;
      at = answer.cursor;
    }
  }

  get cursor(): string {
    return this.#cursor;
  }

  missing(log: readonly LoggedChange[]): readonly LoggedChange[] {
    const known = new Set(this.#changes.map(nameOf));
    return log.filter((change) => !known.has(nameOf(change)));
  }

  judge({ log, isExplained, lossDeclared }: Expectation): ReaderVerdict {
    const found = new Findings();
    const missing = this.missing(log);
    for (const change of missing) if (!isExplained(change)) found.add("missing", nameOf(change));
    if (this.#gaps > 0 && !lossDeclared) found.add("missing", `${this.#gaps} gaps, and no loss was declared`);
    const known = new Map(log.map((change) => [nameOf(change), change]));
    const seen = new Set<string>();
    const last = new Map<string, number>();
    for (const change of this.#changes) {
      const name = nameOf(change);
      const inLog = known.get(name);
      if (seen.has(name)) found.add("doubled", name);
      seen.add(name);
      if (inLog && inLog.item !== change.item)
        found.add("changed", `${name} is ${change.item}, in the log ${inLog.item}`);
      if (!inLog && !isExplained(change)) found.add("unknown", name);
      const channel = `${change.channel} ${change.epoch}`;
      if (change.offset < (last.get(channel) ?? 0)) found.add("inverted", name);
      last.set(channel, change.offset);
    }
    return {
      reader: "puller",
      changes: seen.size,
      repeats: this.#changes.length - seen.size,
      gone: missing.filter(isExplained).length,
      violations: found.all,
    };
  }

  #take({ changes, cursor }: Answer): void {
    for (const each of changes) {
      if ("gap" in each) this.#gaps++;
      else this.#changes.push(logged(each));
    }
    this.#cursor = cursor;
  }

  async #ask(query: Readonly<Record<string, string | number>>): Promise<Answer> {
    const api = this.#apis[Math.floor(this.#random() * this.#apis.length)];
    if (!api) throw new Error("no private API");
    const search = new URLSearchParams({ channels: this.#channels.join(",") });
    for (const [name, value] of Object.entries(query)) search.set(name, String(value));
    const answer = await call(api, `/v1/changes?${search.toString()}`);
    if (answer.status !== 200) throw new Error(`the log cannot be read: ${problem(answer)}`);
    return answer.body as Answer;
  }
}

function logged({ channel, epoch, offset, data, at }: PulledChange): LoggedChange {
  return { channel, epoch, offset, item: data.item, key: data.key, at };
}
