/** Calls of the private API about endpoints. */
import { fetchFailure } from "../shared/http/fetch-failure.ts";

/** Where a private API listens on this machine. */
export const localApi = "http://127.0.0.1:8081";
const requestMs = 30_000;
const pageSize = 200;

export interface Endpoint {
  id: string;
  url: string;
  state: string;
  point: number;
  lag: { changes: number; ms: number };
  lastError?: { at: number; status?: number; message: string };
}

export interface EndpointFilter {
  readonly state?: string | undefined;
  /** The first so many percent. */
  readonly percent?: number | undefined;
}

export class EndpointApi {
  readonly url: string;
  readonly token: string;

  constructor(url: string, token: string) {
    this.url = url;
    this.token = token;
  }

  /** @throws Error where it refuses, or cannot be reached */
  async ask<Answer>(method: string, path: string, body?: object): Promise<Answer> {
    return JSON.parse(await this.text(method, path, { body })) as Answer;
  }

  /** @throws Error where it refuses, or cannot be reached */
  async text(
    method: string,
    path: string,
    { body, withinMs = requestMs }: { body?: object | undefined; withinMs?: number } = {},
  ): Promise<string> {
    const answer = await fetch(new URL(path, this.url), {
      method,
      headers: {
        authorization: `Bearer ${this.token}`,
        ...(body && { "content-type": "application/json" }),
      },
      ...(body && { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(withinMs),
    }).catch((error: unknown) => {
      throw new Error(`the API at ${this.url} cannot be reached: ${fetchFailure(error)}`);
    });
    const answered = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${answered}`);
    return answered;
  }

  /** By id. */
  async list({ state, percent }: EndpointFilter): Promise<readonly Endpoint[]> {
    const found: Endpoint[] = [];
    const query = new URLSearchParams({ limit: String(pageSize) });
    if (state !== undefined) query.set("state", state);
    if (percent !== undefined) query.set("percent", String(percent));
    for (let next: string | undefined = ""; next !== undefined;) {
      if (next !== "") query.set("after", next);
      const page: { items: Endpoint[]; next?: string } = await this.ask("GET", `/v1/endpoints?${query.toString()}`);
      found.push(...page.items);
      ({ next } = page);
    }
    return found;
  }
}

export function endpointPath(id: string, action = ""): string {
  return `/v1/endpoints/${encodeURIComponent(id)}${action}`;
}
