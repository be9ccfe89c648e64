import type { Redis } from "ioredis";
import type { Service } from "../runtime/lifecycle.ts";
import { withDeadline } from "../runtime/timing.ts";

const invalidations = "__redis__:invalidate";
const startMs = 3_000;
/** Names that are kept. Past it more has changed than can be copied. */
const maxChanged = 1_000_000;

/**
 * Collects the names of keys that change, as Redis tells its caches (CLIENT TRACKING with BCAST). Uses connections of its own: one
 * that asks, and one that receives.
 */
export class KeyChanges implements Service {
  readonly #asker: Redis;
  readonly #receiver: Redis;
  readonly #prefixes: readonly string[];
  #changed = new Set<string>();
  #broken: Error | undefined;
  readonly #waiting = new Map<string, () => void>();

  /** @param options.open opens a connection to the server that holds the keys; it is not connected yet. */
  constructor(options: { open: () => Redis; prefixes: readonly string[] }) {
    this.#asker = options.open();
    this.#receiver = options.open();
    this.#prefixes = options.prefixes;
  }

  /** From now on every change is noticed. @throws where the server refuses, or does not answer in time. */
  async start(): Promise<void> {
    this.#receiver.on("messageBuffer", (_channel: Buffer, names: readonly Buffer[] | null) => this.#receive(names));
    for (const client of [this.#asker, this.#receiver]) {
      client.once("close", () => this.#break(new Error("the connection that reports changed keys was lost")));
    }
    const begun = async (): Promise<true> => {
      await Promise.all([this.#asker.connect(), this.#receiver.connect()]);
      const id = await this.#receiver.client("ID");
      await this.#receiver.subscribe(invalidations);
      const prefixes = this.#prefixes.flatMap((prefix) => ["PREFIX", prefix]);
      await this.#asker.call("CLIENT", "TRACKING", "ON", "REDIRECT", String(id), "BCAST", ...prefixes);
      return true;
    };
    const isBegun = await withDeadline(begun(), startMs, () => false);
    if (!isBegun) throw new Error("the connection that reports changed keys could not be opened in time");
  }

  async stop(): Promise<void> {
    this.#asker.disconnect();
    this.#receiver.disconnect();
  }

  /** How many keys have changed since the last {@link take}. @throws where changes may have been missed. */
  get count(): number {
    if (this.#broken) throw this.#broken;
    return this.#changed.size;
  }

  /** Which keys have changed since the last call. @throws where changes may have been missed. */
  take(): ReadonlySet<string> {
    if (this.#broken) throw this.#broken;
    const taken = this.#changed;
    this.#changed = new Set();
    return taken;
  }

  /** Whether changes of the key are noticed here. */
  covers(key: string): boolean {
    return this.#prefixes.some((prefix) => key.startsWith(prefix));
  }

  /** Resolves once the change of this key is known; call it before the key is changed. */
  async arrival(key: string, waitMs: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<true>();
    this.#waiting.set(key, () => resolve(true));
    const arrived = await withDeadline(promise, waitMs, () => false);
    this.#waiting.delete(key);
    if (!arrived) throw new Error("changed keys were not reported in time");
  }

  #receive(names: readonly Buffer[] | null): void {
    // All keys were dropped at once.
    if (names === null) return this.#break(new Error("the server flushed its data"));
    for (const name of names) {
      const key = name.toString();
      this.#changed.add(key);
      this.#waiting.get(key)?.();
    }
    if (this.#changed.size > maxChanged) this.#break(new Error("keys change faster than they can be copied"));
  }

  #break(error: Error): void {
    this.#broken ??= error;
    this.#changed.clear();
  }
}
