/** The two calls of the private API that the board needs. */
import type { Position } from "./board.ts";

export interface Publish {
  channel: string;
  event: string;
  data: unknown;
  /** Makes a repeated publish harmless. */
  id?: string;
  /** False: a passing thing, for whoever is there now. */
  history?: boolean;
  /** Only where the channel stands there. */
  expect?: Position;
}

export type Published =
  | { kind: "published"; position: Position; duplicate: boolean }
  /** The channel has moved on; nothing was published. */
  | { kind: "conflict"; position: Position; publications: unknown[] };

const timeoutMs = 3_000;

export class PrivateApi {
  readonly #url: string;
  readonly #token: string;

  constructor(url: string, token: string) {
    this.#url = url;
    this.#token = token;
  }

  /** @throws PrivateApiError where it is not known whether it was published, or it was refused */
  async publish(publication: Publish): Promise<Published> {
    const { status, body } = await this.#request("POST", "/v1/publish", publication);
    if (status === 409 && body["code"] === "conflict") {
      const { position, publications } = body as { position: Position; publications: unknown[] };
      return { kind: "conflict", position, publications };
    }
    if (status !== 200) throw new PrivateApiError(`publish was answered ${status}: ${JSON.stringify(body)}`);
    const { epoch, offset, duplicate } = body as unknown as Position & { duplicate?: true };
    return { kind: "published", position: { epoch, offset }, duplicate: duplicate === true };
  }

  /** A page of what was published since, or of all that is kept; null where the history cannot go on from `since`. */
  async history<Page>(channel: string, since?: Position): Promise<Page | null> {
    const query = since ? `?epoch=${encodeURIComponent(since.epoch)}&after=${since.offset}` : "";
    const { status, body } = await this.#request("GET", `/v1/channels/${encodeURIComponent(channel)}/history${query}`);
    if (status === 409) return null;
    if (status !== 200) throw new PrivateApiError(`history was answered ${status}: ${JSON.stringify(body)}`);
    return body as Page;
  }

  async #request(
    method: string,
    path: string,
    content?: object,
  ): Promise<{ status: number; body: Record<string, unknown> }> {
    try {
      const response = await fetch(this.#url + path, {
        method,
        headers: { "content-type": "application/json", authorization: `Bearer ${this.#token}` },
        signal: AbortSignal.timeout(timeoutMs),
        ...(content && { body: JSON.stringify(content) }),
      });
      return { status: response.status, body: (await response.json()) as Record<string, unknown> };
    } catch (error) {
      throw new PrivateApiError("the private API cannot be reached", { cause: error });
    }
  }
}

export class PrivateApiError extends Error {}
