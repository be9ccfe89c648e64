/** The way in: emits of the old fleet become publications, in their order, each once. */
import { setTimeout as delay } from "node:timers/promises";
import type { ChangeBudget } from "../../shared/changes/budget.ts";
import type { ChannelBroker, EphemeralRequest, PublishRequest } from "../../shared/channels/contract.ts";
import { slotOf } from "../../shared/redis/slots.ts";
import type { CurrentRules } from "../../shared/rules/current-rules.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import { jittered } from "../../shared/runtime/timing.ts";
import { keptOf } from "../changes/kept-of.ts";
import { namespaceRefusal } from "../changes/namespace-refusal.ts";
import { Waiting } from "../leases/waiting.ts";
import type { PrivateApiMetrics } from "../metrics/metrics.ts";
import { markName } from "./marks.ts";
import type { CarriedEmit } from "./received-emit.ts";

/** Emits that wait while the message store is slow or away. Beyond it the newest are dropped, and a stream is not read. */
const maxWaiting = 20_000;
const maxWaitingBytes = 16 * 1_048_576;
/** Emits that are published together, and those beside them in the last message. */
const batchSize = 256;
const retryMs = 250;
const idleMs = 60_000;

/** duplicate: it was published before, as a rule by the bridge from which this one took over. unlisted: refused by `strictNamespaces`. */
export type IncomingOutcome = "published" | "duplicate" | "ephemeral" | "dropped" | "unlisted";

export interface IncomingOptions {
  broker: Pick<ChannelBroker, "publish" | "publishEphemeral">;
  rules: Pick<CurrentRules, "rules">;
  changeBudget: Pick<ChangeBudget, "retention">;
  metrics: Pick<PrivateApiMetrics, "unlistedNamespaces">;
  /** Of the bridge. Publications carry it, so that the way out knows them. */
  identity: string;
  /** Whose offsets the messages have, see `fleetIdOf`. */
  fleetId: string;
  /** @throws LeaseEnded */
  checkLease: () => void;
  count: (outcome: IncomingOutcome) => void;
  /** Everything up to here is published. Also called for what needs no publication. */
  onDone: (offset: string | undefined) => unknown;
  /** Undefined: it works again. */
  onTrouble: (message: string | undefined) => void;
}

/** What one message of the old fleet becomes. */
export interface ReceivedMessage {
  readonly emits: readonly CarriedEmit[];
  /** A mark for each emit: grows from one to the next. */
  readonly marks: readonly string[];
  /** Of the stream's entry. */
  readonly offset: string | undefined;
}

export class Incoming {
  readonly #options: IncomingOptions;
  readonly #waiting = new Waiting();
  #messages: ReceivedMessage[] = [];
  /** Of the messages. */
  #size = 0;
  #bytes = 0;
  #freed: PromiseWithResolvers<void> | undefined;
  /** Of emits of the present batch. Where it is published again, the first one counts. */
  #outcomes = new Map<CarriedEmit, IncomingOutcome>();

  constructor(options: IncomingOptions) {
    this.#options = options;
  }

  /** What comes from a stream is taken in any case: its reader waits for {@link room} before each read. */
  add(message: ReceivedMessage): void {
    const [size, bytes] = [sizeOf(message), bytesOf(message)];
    const isTooMuch = this.#size + size > maxWaiting || this.#bytes + bytes > maxWaitingBytes;
    if (isTooMuch && message.offset === undefined) {
      for (const _ of message.emits) this.#options.count("dropped");
      return;
    }
    this.#messages.push(message);
    this.#size += size;
    this.#bytes += bytes;
    this.#waiting.wake();
  }

  /** Resolves once less waits than the bound. */
  async room(): Promise<void> {
    while (this.#size >= maxWaiting || this.#bytes >= maxWaitingBytes) {
      this.#freed ??= Promise.withResolvers();
      await this.#freed.promise;
    }
  }

  /** Runs until it is stopped and nothing waits. @throws LeaseEnded; what waits is dropped then, except what the next bridge reads again. */
  async run(): Promise<void> {
    try {
      while (!this.#waiting.isStopped || this.#messages.length > 0) {
        if (this.#messages.length === 0) await this.#waiting.wait(idleMs);
        else await this.#publishNext();
      }
    } finally {
      for (const { emits, offset } of this.#messages) {
        if (offset === undefined) for (const emit of emits) this.#options.count(this.#outcomes.get(emit) ?? "dropped");
      }
      this.#remove(this.#messages.length);
    }
  }

  /** What waits is published first, for as long as the lease holds. */
  stop(): void {
    this.#waiting.stop();
  }

  /** A batch leaves the queue once all of it is stored: publishing it again publishes what is missing. */
  async #publishNext(): Promise<void> {
    const { checkLease, count, onDone, onTrouble } = this.#options;
    checkLease();
    const batch = this.#nextBatch();
    try {
      await this.#publish(batch);
    } catch (error) {
      if (!(error instanceof TidegateError)) throw error;
      onTrouble(error.message);
      await delay(jittered(retryMs));
      return;
    }
    onTrouble(undefined);
    this.#remove(batch.length);
    for (const outcome of this.#outcomes.values()) count(outcome);
    this.#outcomes.clear();
    onDone(batch.findLast(({ offset }) => offset !== undefined)?.offset);
  }

  #nextBatch(): ReceivedMessage[] {
    const batch: ReceivedMessage[] = [];
    let size = 0;
    for (const message of this.#messages) {
      if (size >= batchSize) break;
      batch.push(message);
      size += sizeOf(message);
    }
    return batch;
  }

  #remove(count: number): void {
    for (const message of this.#messages.splice(0, count)) {
      this.#size -= sizeOf(message);
      this.#bytes -= bytesOf(message);
    }
    this.#freed?.resolve();
    this.#freed = undefined;
  }

  /** All in one turn: the broker sends them together, in order. A failure is kept until all have ended. */
  async #publish(batch: readonly ReceivedMessage[]): Promise<void> {
    const { rules, changeBudget, metrics, identity } = this.#options;
    /** By sequence and slot. */
    const lastMarks = new Map<string, string>();
    const publications: Promise<unknown>[] = [];
    for (const { emits, marks, offset } of batch) {
      const name = markName(this.#options, offset);
      for (const [index, emit] of emits.entries()) {
        const { channel, event, data, bytes, isVolatile } = emit;
        const at = marks[index] ?? "";
        if (namespaceRefusal(channel, { rules: rules.rules, metrics }) !== undefined) {
          this.#note(emit, "unlisted");
          continue;
        }
        if (isVolatile) {
          if (this.#outcomes.has(emit)) continue;
          const item = { channel, event, data };
          // Only an entry of a stream can be read again.
          const once = offset === undefined ? item : { ...item, mark: { name: `${name}:volatile`, at } };
          publications.push(this.#publishEphemeral(emit, once));
          continue;
        }
        const sequence = `${name} ${slotOf(channel)}`;
        const mark = { name, at, before: lastMarks.get(sequence) ?? "" };
        lastMarks.set(sequence, at);
        const kept = keptOf(channel, bytes, { rules: rules.rules, changeBudget });
        const request = { channel, event, data, mark, origin: identity, ...kept };
        publications.push(this.#publishKept(emit, request).catch((error: unknown) => error));
      }
    }
    const failure = (await Promise.all(publications)).find((outcome) => outcome !== undefined);
    if (failure !== undefined) throw failure as Error;
  }

  async #publishKept(emit: CarriedEmit, request: PublishRequest): Promise<undefined> {
    const outcome = await this.#options.broker.publish(request);
    this.#note(emit, outcome.kind === "published" && outcome.duplicate ? "duplicate" : "published");
  }

  /** At most once. */
  async #publishEphemeral(emit: CarriedEmit, request: EphemeralRequest): Promise<undefined> {
    try {
      const { duplicate } = await this.#options.broker.publishEphemeral(request);
      this.#note(emit, duplicate ? "duplicate" : "ephemeral");
    } catch (error) {
      if (!(error instanceof TidegateError)) throw error;
      this.#note(emit, "dropped");
    }
  }

  #note(emit: CarriedEmit, outcome: IncomingOutcome): void {
    if (!this.#outcomes.has(emit)) this.#outcomes.set(emit, outcome);
  }
}

/** A message without emits takes a place, too. */
function sizeOf({ emits }: ReceivedMessage): number {
  return Math.max(1, emits.length);
}

/** The emits of one message share one text. */
function bytesOf({ emits }: ReceivedMessage): number {
  return emits[0]?.bytes ?? 0;
}
