/** One run of the order checker: clients emit numbered items of some keys, the receiver gets them, and the verdict at the end. */
import { setTimeout as pause } from "node:timers/promises";
import type { LossWindow } from "../checker/fault-runner.ts";
import type { PrivateApiAddress } from "../checker/private-api.ts";
import { Emitter, type EmitterOptions } from "./emitter.ts";
import { HookEmitter } from "./hook-emitter.ts";
import type { ItemSender } from "./item-sender.ts";
import { KeyLedger, type KeyVerdict } from "./key-ledger.ts";
import type { Receiver } from "./receiver.ts";
import { releaseSilentKeys, retryDeadItems } from "./tidy.ts";

export interface OrderRunOptions extends Pick<EmitterOptions, "perSecond" | "reconnectMs" | "random" | "onAck"> {
  readonly gatewayUrls: readonly string[];
  readonly api: PrivateApiAddress;
  readonly receiver: Receiver;
  /** One client for each. */
  readonly tokens: readonly string[];
  /** Begins the names of the run's keys. */
  readonly name: string;
  /** The keys of each client: an event for each. */
  readonly events: readonly string[];
  /** Webhooks beside the clients: each gateway gets some of a key of its own for each source. */
  readonly hooks?: {
    readonly secret: string;
    readonly sources: readonly { readonly name: string; readonly event: string }[];
  };
  readonly lossWindows: readonly LossWindow[];
}

/** For the last items to be acknowledged: on a busy machine a program takes a minute to start. */
const acceptWithinMs = 180_000;
const checkEveryMs = 50;
const tidyEveryMs = 1_000;

export class OrderRun {
  readonly emitters: readonly ItemSender[];
  readonly ledgers: readonly KeyLedger[];
  /** Why the last attempt to retry dead letters and to release keys failed. */
  lastProblem: string | undefined;
  readonly #options: OrderRunOptions;

  constructor(options: OrderRunOptions) {
    this.#options = options;
    const { gatewayUrls: urls, tokens, events, name, receiver } = options;
    const own = tokens.map((_, client) =>
      events.map((event, at) => new KeyLedger(`${name}-${client + 1}-${at + 1}`, event)),
    );
    const clients = tokens.map((token, at) => new Emitter({ ...options, urls, token, keys: own[at] ?? [] }));
    const hookLedgers: KeyLedger[] = [];
    const hookEmitters = urls.flatMap((url, gateway) => {
      const { secret = "", sources = [] } = options.hooks ?? {};
      const keys = sources.map(({ name: source, event }, at) => {
        return { source, ledger: new KeyLedger(`${name}-hook-${gateway + 1}-${at + 1}`, event) };
      });
      hookLedgers.push(...keys.map(({ ledger }) => ledger));
      return keys.length === 0 ? [] : [new HookEmitter({ ...options, url, secret, keys })];
    });
    this.ledgers = [...own.flat(), ...hookLedgers];
    this.emitters = [...clients, ...hookEmitters];
    for (const ledger of this.ledgers) receiver.add(ledger);
  }

  start(): void {
    for (const emitter of this.emitters) emitter.start();
  }

  stop(): void {
    for (const emitter of this.emitters) emitter.stop();
  }

  /** Emits until the signal aborts, and until every item is acknowledged. @throws where that takes too long */
  async run(signal: AbortSignal): Promise<void> {
    const giveUp = (): void => {
      timer = setTimeout(() => this.stop(), acceptWithinMs);
    };
    let timer: NodeJS.Timeout | undefined;
    signal.addEventListener("abort", giveUp, { once: true });
    await Promise.all(this.emitters.map(async (emitter) => emitter.run(signal)));
    signal.removeEventListener("abort", giveUp);
    clearTimeout(timer);
    this.#checkAccepted();
  }

  /**
   * Emits a last item of each key, waits until the service has it and everything before it, and judges. Dead letters are sent
   * once more, and parked keys released, until the service has taken them.
   *
   * @param stalledMs longest wait for the next item to be taken
   * @throws where the last items are not accepted
   */
  async finish(stalledMs: number): Promise<KeyVerdict[]> {
    const giveUp = setTimeout(() => this.stop(), acceptWithinMs);
    await Promise.all(this.emitters.map(async (emitter) => emitter.runOnce()));
    clearTimeout(giveUp);
    this.#checkAccepted();
    let nextTidy = performance.now() + tidyEveryMs;
    let missing = Infinity;
    let lastProgressAt = performance.now();
    while (!this.#isDone() && performance.now() - lastProgressAt < stalledMs) {
      await pause(checkEveryMs);
      const missingNow = this.ledgers.reduce((sum, ledger) => sum + ledger.missing().length, 0);
      if (missingNow < missing) lastProgressAt = performance.now();
      missing = missingNow;
      if (performance.now() < nextTidy) continue;
      const waiting = this.ledgers.filter((ledger) => ledger.missing().length > 0);
      const { api } = this.#options;
      // The deployment may not answer while it recovers: asked again a second later.
      this.lastProblem = undefined;
      for (const tidy of [retryDeadItems, releaseSilentKeys]) {
        await tidy(api, waiting).catch((error: unknown) => (this.lastProblem = String(error)));
      }
      nextTidy = performance.now() + tidyEveryMs;
    }
    return this.ledgers.map((ledger) => ledger.judge(this.#options.lossWindows));
  }

  #checkAccepted(): void {
    const open = this.ledgers.filter((ledger) => !ledger.isAccepted(ledger.emitted)).map(({ key }) => key);
    const why = this.emitters.map((emitter) => [emitter.lastEnd, ...emitter.refusals.keys()].join(" "));
    if (open.length > 0) throw new Error(`not acknowledged: ${open.join(" ")}. Clients: ${why.join("; ")}`);
  }

  /** The service took the last item of each key, and none before it is missing, unless a declared loss took it. */
  #isDone(): boolean {
    return this.ledgers.every(
      (ledger) => ledger.isTaken(ledger.emitted) && ledger.unexplained(this.#options.lossWindows).length === 0,
    );
  }
}
