/**
 * A service behind an `enqueue` route: each event takes effect once, and what a stale worker sends is refused. Plain HTTP; it
 * imports nothing of Tidegate. Documents are kept in memory here; with a database, `apply` is one transaction.
 */
import { createServer, type IncomingMessage, type Server } from "node:http";
import { isSigned } from "../shared/webhook-signature.ts";

/** Remembered for each document, so that a dead letter which an operator retries is recognised, too. */
const maxRememberedIds = 1_000;

interface Document {
  /** The largest that was seen. */
  fence: string;
  /** Of the events that took effect, oldest first. */
  readonly ids: Set<string>;
  readonly edits: unknown[];
}

export class Documents {
  readonly #documents = new Map<string, Document>();

  editsOf(key: string): readonly unknown[] {
    return this.#documents.get(key)?.edits ?? [];
  }

  /** @returns the status to answer */
  apply({ key, id, fence, edit }: { key: string; id: string; fence: string; edit: unknown }): 204 | 409 {
    const document = this.#documents.get(key) ?? { fence: "", ids: new Set(), edits: [] };
    this.#documents.set(key, document);
    // Both have 20 digits: text comparison is enough.
    if (fence < document.fence) return 409;
    document.fence = fence;
    if (document.ids.has(id)) return 204;
    document.edits.push(edit);
    document.ids.add(id);
    const [oldest] = document.ids;
    if (oldest !== undefined && document.ids.size > maxRememberedIds) document.ids.delete(oldest);
    return 204;
  }
}

/** The caller listens and closes. @param secret `whsec_` and base64, as in the rules */
export function createEditService(documents: Documents, secret: string): Server {
  async function statusOf(request: IncomingMessage): Promise<number> {
    const chunks: Buffer[] = [];
    for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
    const body = Buffer.concat(chunks).toString("utf8");
    if (!isSigned(request.headers, body, secret)) return 401;
    const header = (name: string): string => String(request.headers[name]);
    return documents.apply({
      key: decodeURIComponent(header("ce-partitionkey")),
      id: header("ce-id"),
      fence: header("ce-fence"),
      edit: JSON.parse(body) as unknown,
    });
  }
  return createServer((request, response) => {
    void statusOf(request)
      // 500: it comes again, after a pause.
      .catch(() => 500)
      .then((status) => response.writeHead(status).end());
  });
}
