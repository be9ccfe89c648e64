import { parseJson } from "../json/json.ts";
import type { RedisConnections } from "../redis/connections.ts";
import { defineScript } from "../redis/scripts.ts";
import type { DocumentName, DocumentStore, PutDocument, PutOutcome, StoredDocument } from "./contract.ts";

/** A document of a fleet. */
export class RedisDocumentStore implements DocumentStore {
  readonly #connections: RedisConnections;
  readonly #key: string;
  readonly #topic: string;
  readonly #listeners: (() => void)[] = [];
  #subscribed = false;

  /** The caller starts and stops the connections. */
  constructor(connections: RedisConnections, name: DocumentName) {
    this.#connections = connections;
    this.#key = `${connections.root}:{${name}}:document`;
    this.#topic = `${connections.root}:{${name}}:changed`;
    defineScript(connections.commands, "tidegatePutDocument", new URL("put-document.lua", import.meta.url), 1);
  }

  async start(): Promise<void> {
    this.#connections.listen({
      onMessage: (topic) => {
        if (topic === this.#topic) this.#tell();
      },
      onInterrupted: () => undefined,
      onRestored: () => void this.#subscribe(),
    });
    await this.#subscribe();
  }

  async stop(): Promise<void> {
    this.#listeners.length = 0;
  }

  async read(): Promise<StoredDocument | undefined> {
    const [version, changedAt, document] = await this.#connections.run<(string | null)[]>(
      "hmget",
      ...[this.#key, "version", "changedAt", "document"],
    );
    if (!version || !document) return undefined;
    return { version: Number(version), changedAt: Number(changedAt), document: parseJson(document) };
  }

  async put(request: PutDocument): Promise<PutOutcome> {
    const { document, changedAt, ifVersion, ifNewer } = request;
    const [kind, version] = await this.#connections.run<[PutOutcome["kind"], number]>(
      "tidegatePutDocument",
      this.#key,
      ...[JSON.stringify(document), changedAt, ifVersion ?? "", ifNewer ? 1 : 0, this.#topic],
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
        await this.#connections.subscribe(this.#topic);
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
