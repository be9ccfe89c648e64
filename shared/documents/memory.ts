import type { DocumentStore, PutDocument, PutOutcome, StoredDocument } from "./contract.ts";

/** A document of a single process, lost when it ends. */
export class MemoryDocumentStore implements DocumentStore {
  #stored: StoredDocument | undefined;
  readonly #listeners: (() => void)[] = [];

  async start(): Promise<void> {}
  async stop(): Promise<void> {}

  async read(): Promise<StoredDocument | undefined> {
    return this.#stored;
  }

  async put(request: PutDocument): Promise<PutOutcome> {
    const { version = 0, changedAt = 0, document } = this.#stored ?? {};
    if (request.ifVersion !== undefined && request.ifVersion !== version) {
      return { kind: "version_differs", version, changedAt };
    }
    const least = request.version ?? 0;
    const madeAt = Math.min(request.changedAt ?? Infinity, Date.now());
    if (version >= least && JSON.stringify(document) === JSON.stringify(request.document)) {
      return { kind: "unchanged", version, changedAt };
    }
    if (request.ifNewer && madeAt <= changedAt) return { kind: "older", version, changedAt };
    const next = Math.max(version + 1, least);
    const stored = { version: next, changedAt: Math.max(madeAt, changedAt), document: request.document };
    this.#stored = stored;
    for (const listener of this.#listeners) listener();
    return { kind: "stored", version: next, changedAt: stored.changedAt };
  }

  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }
}
