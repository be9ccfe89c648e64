/** What an endpoint gets, read from the log: nothing is kept for it. */
import type { Change, ChangeLog, ReadFrom } from "../../shared/changes/contract.ts";
import type { StoredEndpoint } from "../../shared/endpoints/contract.ts";
import { objectText } from "../../shared/json/json-text.ts";
import { matchesPattern } from "../../shared/protocol/grammar.ts";
import { slotCount } from "../../shared/redis/slots.ts";
import { channelsOf } from "./catch-up.ts";
import { wants } from "./change-queue.ts";
import { changeMessage } from "./queued-change.ts";

const bounds = { limit: 500, maxBytes: 1024 * 1024 };

/** A line for each change since the endpoint's start, slot by slot, up to the end of the log at the time of each read. */
export async function* ledgerLines(log: ChangeLog, stored: StoredEndpoint): AsyncGenerator<string> {
  const { endpoint, startsAt } = stored;
  const channels = channelsOf(endpoint);
  for (let slot = 0; slot < slotCount; slot++) {
    let from: ReadFrom = endpoint.after ? { kind: "start" } : { kind: "time", at: startsAt };
    for (let isEnd = false; !isEnd;) {
      const [read] = await log.read([{ slot, from }], { ...bounds, channels });
      if (!read) break;
      if (read.gap && read.gap.to >= startsAt) yield `${JSON.stringify({ gap: read.gap })}\n`;
      for (const change of read.changes) {
        const isAskedFor = endpoint.events.some((pattern) => matchesPattern(pattern, change.event));
        if (isAskedFor && wants(stored, change)) yield lineOf(stored, change);
      }
      isEnd = read.place === read.newest;
      from = { kind: "after", place: read.place };
    }
  }
}

function lineOf(stored: StoredEndpoint, change: Change): string {
  const { at, channel, epoch, offset, event, data } = change;
  const message = changeMessage(change);
  const key = message.keyFor(stored);
  return `${objectText({ at, changeId: message.id, channel, epoch, offset, event, key }, { data })}\n`;
}
