/** Pulls the change log over HTTP, from answer to answer. */
import { tokens } from "./fleet.ts";

export interface PulledChange {
  channel: string;
  epoch: string;
  offset: number;
  prev?: number;
  event: string;
  data: unknown;
  at: number;
}

export interface PulledGap {
  gap: { channel?: string; from: number; to: number };
}

export interface PullAnswer {
  changes: (PulledChange | PulledGap)[];
  cursor: string;
}

type Query = Record<string, string | number>;

export async function askForChanges(apiUrl: string, query: Query, init: RequestInit = {}): Promise<Response> {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) search.set(name, String(value));
  const headers = { authorization: `Bearer ${tokens.reader}` };
  return fetch(`${apiUrl}/v1/changes?${search.toString()}`, { headers, ...init });
}

export async function pull(apiUrl: string, query: Query = {}): Promise<PullAnswer> {
  const answer = await askForChanges(apiUrl, query);
  const text = await answer.text();
  if (answer.status !== 200) throw new Error(`the pull was refused: ${text}`);
  return JSON.parse(text) as PullAnswer;
}

/** Until an answer is empty. @param apiUrls asked in turn */
export async function pullAll(apiUrls: readonly string[], query: Query = {}): Promise<PullAnswer> {
  const changes: PullAnswer["changes"] = [];
  let { cursor } = query;
  for (let asked = 0; ; asked++) {
    const answer = await pull(apiUrls[asked % apiUrls.length] ?? "", {
      ...query,
      ...(cursor !== undefined && { cursor }),
    });
    changes.push(...answer.changes);
    ({ cursor } = answer);
    if (answer.changes.length === 0) return { changes, cursor };
  }
}

export function isGap(item: PulledChange | PulledGap): item is PulledGap {
  return "gap" in item;
}

export function changesOf(items: PullAnswer["changes"], channel: string): PulledChange[] {
  return items.filter((item): item is PulledChange => !isGap(item) && item.channel === channel);
}
