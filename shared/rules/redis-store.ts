import { parseJson } from "../json.ts";
import type { RedisConnections } from "../redis/connections.ts";
import { defineScript } from "../redis/scripts.ts";
import type { PutOutcome, PutRules, RulesStore, StoredRules } from "./store.ts";

const key = "tidegate:{rules}:document";
const topic = "tidegate:{rules}:changed";

/** Rules of a fleet. */
export class RedisRulesStore implements RulesStore {
  readonly #connections: RedisConnections;
  readonly #listeners: (() => void)[] = [];
  #subscribed = false;

  /** The caller starts and stops the connections. */
  constructor(connections: RedisConnections) {
    this.#connections = connections;
    defineScript(connections.commands, "tidegatePutRules", new URL("put-rules.lua", import.meta.url), 1);
  }

  async start(): Promise<void> {
    this.#connections.listen({
      onMessage: (name) => {
        if (name === topic) this.#tell();
      },
      onInterrupted: () => undefined,
      onRestored: () => void this.#subscribe(),
    });
    await this.#subscribe();
  }

  async stop(): Promise<void> {
    this.#listeners.length = 0;
  }

  async read(): Promise<StoredRules | undefined> {
    const [version, changedAt, document] = await this.#connections.run<(string | null)[]>(
      "hmget",
      ...[key, "version", "changedAt", "document"],
    );
    if (!version || !document) return undefined;
    return { version: Number(version), changedAt: Number(changedAt), document: parseJson(document) };
  }

  async put(request: PutRules): Promise<PutOutcome> {
    const { document, changedAt, ifVersion, ifNewer } = request;
    const [kind, version] = await this.#connections.run<[PutOutcome["kind"], number]>(
      "tidegatePutRules",
      key,
      ...[JSON.stringify(document), changedAt, ifVersion ?? "", ifNewer ? 1 : 0, topic],
    );
    return { kind, version };
  }

  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /** The first time; from then on the connections keep the subscription. While Redis is away, its return is waited for. */
  async #subscribe(): Promise<void> {
    if (!this.#subscribed) {
      try {
        await this.#connections.subscribe(topic);
        this.#subscribed = true;
      } catch {
        return;
      }
    }
    this.#tell();
  }

  #tell(): void {
    for (const listener of this.#listeners) listener();
  }
}
