import { parseJson } from "../json/json.ts";
import type { Cells } from "../redis/cells.ts";
import { script } from "../redis/scripts.ts";
import type { DocumentName, DocumentStore, PutDocument, PutOutcome, StoredDocument } from "./contract.ts";
import { documentKeys } from "./keys.ts";

const putScript = script<[kind: PutOutcome["kind"], version: number]>(new URL("put-document.lua", import.meta.url), 1);

/** A document that a fleet shares. */
export class RedisDocumentStore implements DocumentStore {
  readonly #cells: Cells;
  readonly #keys: ReturnType<typeof documentKeys>;
  readonly #listeners: (() => void)[] = [];
  #subscribed = false;

  constructor(cells: Cells, name: DocumentName) {
    this.#cells = cells;
    this.#keys = documentKeys(cells.fleet.root, name);
  }

  async start(): Promise<void> {
    this.#cells.fleet.topics.listen({
      onMessage: (topic) => {
        if (topic === this.#keys.changed) this.#notify();
      },
      onRestored: () => void this.#subscribe(),
    });
    await this.#subscribe();
  }

  async stop(): Promise<void> {
    this.#listeners.length = 0;
  }

  async read(): Promise<StoredDocument | undefined> {
    const [version, changedAt, document] = await this.#cells.fleet.run<(string | null)[]>(
      "hmget",
      ...[this.#keys.document, "version", "changedAt", "document"],
    );
    if (!version || !document) return undefined;
    return { version: Number(version), changedAt: Number(changedAt), document: parseJson(document) };
  }

  async put(request: PutDocument): Promise<PutOutcome> {
    const { document, changedAt, ifVersion, ifNewer, version: least } = request;
    const [kind, version] = await this.#cells.fleet.run(
      putScript,
      this.#keys.document,
      ...[JSON.stringify(document), changedAt, ifVersion ?? "", ifNewer ? 1 : 0, this.#keys.changed, least ?? ""],
    );
    return { kind, version };
  }

  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /** Subscribes until it succeeds once; after that the connections keep the subscription. Called again whenever Redis returns. */
  async #subscribe(): Promise<void> {
    if (!this.#subscribed) {
      try {
        await this.#cells.fleet.topics.subscribe(this.#keys.changed);
        this.#subscribed = true;
      } catch {
        return;
      }
    }
    this.#notify();
  }

  #notify(): void {
    for (const listener of this.#listeners) listener();
  }
}
