import { parseJson } from "../json/json.ts";
import type { Cells } from "../redis/cells.ts";
import { ChangeTopic } from "../redis/change-topic.ts";
import { script } from "../redis/scripts.ts";
import type { DocumentName, DocumentStore, PutDocument, PutOutcome, StoredDocument } from "./contract.ts";
import { documentKeys } from "./keys.ts";

type PutReply = [kind: PutOutcome["kind"], version: number, changedAt: number];

const putScript = script<PutReply>(new URL("put-document.lua", import.meta.url), 1);

/** A document that a fleet shares. */
export class RedisDocumentStore implements DocumentStore {
  readonly #cells: Cells;
  readonly #keys: ReturnType<typeof documentKeys>;
  readonly #changes: ChangeTopic;

  constructor(cells: Cells, name: DocumentName) {
    this.#cells = cells;
    this.#keys = documentKeys(cells.fleet.root, name);
    this.#changes = new ChangeTopic(cells, this.#keys.changed);
  }

  async start(): Promise<void> {
    await this.#changes.start();
  }

  async stop(): Promise<void> {
    await this.#changes.stop();
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
    const [kind, version, storedAt] = await this.#cells.fleet.run(
      putScript,
      this.#keys.document,
      ...[JSON.stringify(document), changedAt ?? "", ifVersion ?? "", ifNewer ? 1 : 0, this.#keys.changed, least ?? ""],
    );
    return { kind, version, changedAt: storedAt };
  }

  onChange(listener: () => void): void {
    this.#changes.listen(listener);
  }
}
