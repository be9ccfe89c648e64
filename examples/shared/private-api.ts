/** The two calls of the private API that the examples use. */
import { Unavailable } from "./failures.ts";

/** A position in a channel. */
export interface Position {
  epoch: string;
  offset: number;
}

export interface Publish {
  channel: string;
  event: string;
  data: unknown;
  /** Makes a repeated publish harmless. */
  id?: string;
  /** False: ephemeral, delivered only to clients connected now. */
  history?: boolean;
  /** Publish only if the channel is at this position. */
  expect?: Position;
}

export type Published =
  | { kind: "published"; position: Position; duplicate: boolean }
  /** The channel is at another position; nothing was published. */
  | { kind: "conflict"; position: Position; publications: unknown[] };

const timeoutMs = 3_000;

export class PrivateApi {
  readonly #url: string;
  readonly #token: string;

  constructor(url: string, token: string) {
    this.#url = url;
    this.#token = token;
  }

  /** @throws PrivateApiError where the publish was refused or its outcome is unknown. */
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

  /** Publications after `since`; the whole history before the first read, or where history has a gap after `since`. */
  async historyAfter<Page>(channel: string, since: Position | null): Promise<Page> {
    const page = since && (await this.#history<Page>(channel, since));
    return page ?? (await this.#history<Page>(channel)) ?? Promise.reject(new PrivateApiError("no history"));
  }

  async #history<Page>(channel: string, since?: Position): Promise<Page | null> {
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

/** Refused, or of unknown outcome. */
export class PrivateApiError extends Unavailable {}
