/** What an endpoint that is behind has not got from the log yet. Changes of other channels of its slots count as well. */
import { type ChangeLog, placeBeforeAll } from "../../shared/changes/contract.ts";
import { changesBetween, comparePlaces, isAtTime, timeOf } from "../../shared/changes/places.ts";
import type { StoredEndpoint } from "../../shared/endpoints/contract.ts";
import { everySlot } from "../../shared/redis/slots.ts";
import { cursorName } from "./behind.ts";
import { fromOf } from "./catch-up.ts";

/** Slots that are read for their first waiting change: those in which the endpoint is furthest behind. */
const searchedSlots = 16;

/** @returns `oldestAt`: Unix ms of the oldest waiting change, Infinity where none waits */
export async function waitingInLog(
  log: Pick<ChangeLog, "cursors" | "figures" | "read">,
  stored: StoredEndpoint,
): Promise<{ changes: number; oldestAt: number }> {
  const cursors = await log.cursors(everySlot, cursorName(stored));
  if (cursors.length === 0) return { changes: 0, oldestAt: Infinity };
  const figures = new Map((await log.figures()).map((each) => [each.slot, each]));
  const behind = cursors.flatMap(({ slot, place }) => {
    const ofSlot = figures.get(slot);
    if (!ofSlot) return [];
    const since = place === placeBeforeAll ? stored.startsAt : isAtTime(place) ? timeOf(place) : 0;
    // How many changes came before a time is not known, unless all did.
    if (timeOf(ofSlot.newest) < since) return [];
    const changes = Math.min(ofSlot.changes, changesBetween(place, ofSlot.newest));
    if (changes <= 0) return [];
    const { oldestAt = Infinity } = ofSlot;
    // Where all of the log waits, its oldest change is known.
    const isKnown = changes === ofSlot.changes && oldestAt >= since;
    return [{ slot, place, changes, oldestAt: isKnown ? oldestAt : undefined }];
  });
  const searched = behind.filter(({ oldestAt }) => oldestAt === undefined);
  const furthest = searched.toSorted((one, other) => comparePlaces(one.place, other.place)).slice(0, searchedSlots);
  const reads = await Promise.all(
    furthest.map(async ({ slot, place }) =>
      log.read([{ slot, from: fromOf(stored, place) }], { limit: 1, maxBytes: 1 }),
    ),
  );
  const found = reads.flat().map((read) => read.changes[0]?.at ?? Infinity);
  const times = [...found, ...behind.map(({ oldestAt = Infinity }) => oldestAt)];
  return { changes: behind.reduce((sum, { changes }) => sum + changes, 0), oldestAt: Math.min(...times) };
}
