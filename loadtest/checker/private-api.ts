/** The checker's calls of the private API. */
import { fetchFailure } from "../../shared/http/fetch-failure.ts";
import { maxHistoryLimit } from "../../shared/protocol/limits.ts";
import type { HistoryAck, Position } from "../../shared/protocol/wire.ts";
import type { ChainItem } from "./chain.ts";
import type { ItemData } from "./client.ts";

const callWithinMs = 8_000;
const defaultHistorySize = 100;

export interface PrivateApiAddress {
  readonly url: string;
  readonly token: string;
}

interface Answer {
  readonly status: number;
  readonly body: unknown;
}

/** Rejects where there is no answer in time, with the address and the cause. */
export async function call(api: PrivateApiAddress, path: string, body?: object): Promise<Answer> {
  const answer = await fetch(api.url + path, {
    method: body ? "POST" : "GET",
    headers: { authorization: `Bearer ${api.token}`, ...(body && { "content-type": "application/json" }) },
    ...(body && { body: JSON.stringify(body) }),
    signal: AbortSignal.timeout(callWithinMs),
  }).catch((error: unknown) => {
    throw new Error(`the API at ${api.url} cannot be reached: ${fetchFailure(error)}`);
  });
  const text = await answer.text();
  return { status: answer.status, body: text === "" ? undefined : (JSON.parse(text) as unknown) };
}

export function problem({ status, body }: Answer): string {
  const { code, detail } = (body ?? {}) as { code?: string; detail?: string };
  return [status, code, detail].filter((part) => part !== undefined).join(" ");
}

/** @returns the publication's position; undefined where the outcome is unknown, or a retry may succeed. */
export async function publish(
  api: PrivateApiAddress,
  channel: string,
  data: ItemData,
): Promise<(Position & { duplicate?: boolean }) | undefined> {
  const answer = await call(api, "/v1/publish", publicationOf(channel, data)).catch(() => undefined);
  if (answer?.status === 200) return answer.body as Position;
  if (answer && !(answer.body as { retryable?: boolean }).retryable)
    throw new Error(`publish refused: ${problem(answer)}`);
  return undefined;
}

/** One call for all of them. @returns each position; undefined as for {@link publish}. */
export async function publishAtOnce(
  api: PrivateApiAddress,
  channel: string,
  items: readonly ItemData[],
): Promise<(Position | undefined)[]> {
  const body = items.map((data) => publicationOf(channel, data));
  const answer = await call(api, "/v1/publish/batch", body).catch(() => undefined);
  if (answer?.status !== 200) return items.map(() => undefined);
  return (answer.body as (Position | { error: object })[]).map((each) => ("error" in each ? undefined : each));
}

function publicationOf(channel: string, data: ItemData): object {
  return { channel, event: "checked", data, id: data.item };
}

/** Reads the whole history, in order. */
export async function readHistory(
  api: PrivateApiAddress,
  channel: string,
): Promise<{ position: Position; publications: ChainItem[] }> {
  const path = `/v1/channels/${encodeURIComponent(channel)}/history`;
  const publications: ChainItem[] = [];
  let from = "";
  while (true) {
    const answer = await call(api, `${path}?limit=${maxHistoryLimit}${from}`);
    if (answer.status !== 200) throw new Error(`history of ${channel}: ${problem(answer)}`);
    const page = answer.body as HistoryAck;
    for (const { offset, prev = offset - 1, data } of page.publications) {
      publications.push({ offset, prev, item: (data as ItemData).item });
    }
    const last = publications.at(-1)?.offset ?? page.position.offset;
    if (last >= page.position.offset || page.publications.length === 0)
      return { position: page.position, publications };
    from = `&epoch=${page.position.epoch}&after=${last}`;
  }
}

/** Publications that a channel of the namespace keeps. */
export async function readHistorySize(api: PrivateApiAddress, namespace: string): Promise<number> {
  const answer = await call(api, "/v1/rules");
  if (answer.status !== 200) throw new Error(`rules: ${problem(answer)}`);
  const { namespaces = {} } = answer.body as { namespaces?: Record<string, { historySize?: number }> };
  return namespaces[namespace]?.historySize ?? namespaces["default"]?.historySize ?? defaultHistorySize;
}
