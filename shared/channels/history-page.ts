/** A page of a channel's history as clients and services ask for it. */
import { TidegateError } from "../errors.ts";
import { parseJson } from "../json.ts";
import { maxHistoryLimit, maxReplayBytes } from "../protocol/limits.ts";
import type { HistoryAck, WirePublication } from "../protocol/wire.ts";
import type { ChannelBroker, HistoryQuery, Publication } from "./broker.ts";

export type PageQuery = Omit<HistoryQuery, "limit" | "maxBytes"> & { limit?: number | undefined };

/**
 * What is kept after `after`; without it, from the oldest on. `position` is where the channel stands.
 * @throws TidegateError `epoch_changed`, or `history_trimmed` where publications after `after` are not kept any more.
 */
export async function readPage(broker: ChannelBroker, query: PageQuery): Promise<HistoryAck> {
  const { limit = maxHistoryLimit } = query;
  const { position, publications } = await broker.readHistory({ ...query, limit, maxBytes: maxReplayBytes });
  if (query.epoch !== undefined && query.epoch !== position.epoch) {
    throw new TidegateError("epoch_changed", "the channel's history began anew", { details: { position } });
  }
  const { after } = query;
  const first = publications[0];
  const missing = first ? after !== undefined && first.prev > after : after !== undefined && after < position.offset;
  if (missing) {
    throw new TidegateError("history_trimmed", "publications after this offset are not kept any more", {
      details: { position },
    });
  }
  return { position, publications: publications.map(toWirePublication) };
}

/** `prev` only where it is not the offset before. */
export function toWirePublication({ offset, prev, event, data }: Publication): WirePublication {
  return { offset, ...(prev !== offset - 1 && { prev }), event, data: parseJson(data) };
}
