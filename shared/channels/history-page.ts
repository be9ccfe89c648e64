/** Reads a page of a channel's history, for clients and services. */
import { objectText } from "../json/json-text.ts";
import { TidegateError } from "../runtime/errors.ts";
import { maxHistoryLimit, maxReplayBytes } from "../protocol/limits.ts";
import type { ChannelBroker, HistoryQuery, Position, Publication } from "./contract.ts";

export type PageQuery = Omit<HistoryQuery, "limit" | "maxBytes"> & { limit?: number | undefined };

export interface HistoryPage {
  position: Position;
  publications: readonly Publication[];
}

/**
 * Reads the publications kept after `after`, or from the oldest on.
 * @throws TidegateError `epoch_changed`, or `history_trimmed` where publications after `after` have expired.
 */
export async function readPage(broker: ChannelBroker, query: PageQuery): Promise<HistoryPage> {
  const { limit = maxHistoryLimit } = query;
  const { position, publications } = await broker.readHistory({ ...query, limit, maxBytes: maxReplayBytes });
  if (query.epoch !== undefined && query.epoch !== position.epoch) {
    throw new TidegateError("epoch_changed", "the channel has a new history", { details: { position } });
  }
  const { after } = query;
  const first = publications[0];
  const missing = first ? after !== undefined && first.prev > after : after !== undefined && after < position.offset;
  if (missing) {
    throw new TidegateError("history_trimmed", "publications after this offset have expired", {
      details: { position },
    });
  }
  return { position, publications };
}

/**
 * The JSON text of `{ ...members, publications }`. Stored data is JSON text and is copied, not parsed: a page costs about as
 * much as its bytes.
 */
export function textWithPublications(members: object, publications: readonly Publication[]): string {
  return objectText(members, { publications: publicationsText(publications) });
}

/** The JSON text of an array of publications. */
export function publicationsText(publications: readonly Publication[]): string {
  return `[${publications.map(publicationText).join(",")}]`;
}

/** In wire form: `prev` only where it is not `offset - 1`. */
function publicationText({ offset, prev, event, data }: Publication): string {
  const jump = prev === offset - 1 ? "" : `"prev":${prev},`;
  return `{"offset":${offset},${jump}"event":${JSON.stringify(event)},"data":${data}}`;
}
