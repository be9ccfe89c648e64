/** Moves endpoints in the log: replays, and the cut-over of a shadow. */
import { randomInt } from "node:crypto";
import {
  type ChangeLog,
  type Gap,
  type Place,
  placeBeforeAll,
  type ReadBounds,
  type ReadFrom,
  type SlotQuery,
} from "../../shared/changes/contract.ts";
import { changesBetween, comparePlaces, placeAtTime, timeOf } from "../../shared/changes/places.ts";
import type { EndpointStore, Move, StoredEndpoint } from "../../shared/endpoints/contract.ts";
import type { Endpoint } from "../../shared/endpoints/endpoint.ts";
import { matchesPattern } from "../../shared/protocol/grammar.ts";
import { everySlot, slotCount, slotOf } from "../../shared/redis/slots.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import { boundFindings } from "../../shared/runtime/schema-errors.ts";
import { parseCursor } from "../changes/pull-cursor.ts";
import { cursorName } from "./behind.ts";
import { channelsOf, fromOf } from "./catch-up.ts";
import { readEndpoint } from "./change-endpoint.ts";
import { channelSlots, gapOf } from "./change-queue.ts";
import { type ChannelPlace, placesOf, type PlaceSources } from "./channel-places.ts";
import { assertEndpointSize } from "./endpoint-form.ts";
import { ownPlaces } from "./ledger.ts";

export type SeekTarget = "start" | "end" | { time: number } | ChannelPlace | { cursor: string };

/** Where a shadow that goes live begins in channels whose last change is not given: with changes from now on, or at the beginning of its ledger. */
export type OtherChannels = "now" | "ledger";

/** Where an endpoint continues. */
export interface MoveTarget {
  move: Omit<Move, "generation">;
  /** By slot. In slots without a place it continues with the other endpoints. */
  places: ReadonlyMap<number, Place>;
  endpoint: Endpoint;
}

/** Of one generation of an endpoint, in one slot. */
interface Cursor {
  readonly slot: number;
  readonly name: string;
  readonly place: Place;
}

/** Tries before `conflict`, while other callers keep changing the same endpoint. */
const maxTries = 10;
const generationsPerSecond = 2 ** 20;
/** Between the clocks of callers and of this process. */
const maxClockDifferenceMs = 60_000;
/** Slots in which gaps are looked for at once. */
const searchedAtOnce = 16;
/** Of one read in one slot, while a gap is looked for. */
const gapBounds = { limit: 1_000, maxBytes: 1024 * 1024, withRows: true };

export class EndpointMoves {
  readonly #store: EndpointStore;
  readonly #log: ChangeLog;
  readonly #sources: PlaceSources;

  constructor(options: { store: EndpointStore; log: ChangeLog; offsetOf: PlaceSources["offsetOf"] }) {
    this.#store = options.store;
    this.#log = options.log;
    this.#sources = options;
  }

  /** @throws TidegateError `invalid_request`, `history_trimmed`, `conflict` where an offset may name two changes */
  async seek(id: string, to: SeekTarget): Promise<StoredEndpoint> {
    return this.move(id, async (stored) => {
      // The places at which it stops mean nothing to the new generation.
      const { after: _after, othersFromLedger: _othersFromLedger, stopping: _stopping, ...endpoint } = stored.endpoint;
      if (to === "end") return { endpoint, move: { startsAt: "now" }, places: new Map() };
      if (to === "start") return { endpoint, move: { startsAt: 0 }, places: allAt(() => placeBeforeAll) };
      if ("time" in to) {
        assertPast(to.time);
        return { endpoint, move: { startsAt: to.time }, places: allAt(() => placeBeforeAll) };
      }
      if ("cursor" in to) return { endpoint, ...(await this.#cursorTarget(to.cursor, "/to")) };
      assertOwnChannels([to], stored.endpoint, "/to");
      const found = (await placesOf(this.#sources, [to], fromStart)).get(to.channel) ?? placeBeforeAll;
      // What is queued stays, and in other slots the endpoint continues from where it is. It gets a place even where it is not behind, because it
      // may fall behind before the move.
      const places = new Map([...(await ownPlaces(this.#log, stored)), [slotOf(to.channel), found]]);
      const startsAt = found === placeBeforeAll ? 0 : Math.min(stored.startsAt, timeOf(found));
      return { endpoint, move: { startsAt, keepsQueued: true }, places };
    });
  }

  /** @throws TidegateError `invalid_request`, `history_trimmed`, `conflict` where it is no shadow, or an offset may name two changes */
  async goLive(id: string, after: string | readonly ChannelPlace[], others: OtherChannels): Promise<StoredEndpoint> {
    return this.move(id, async (stored) => {
      const { after: _after, othersFromLedger: _othersFromLedger, ...shadow } = stored.endpoint;
      if (shadow.mode !== "shadow") throw new TidegateError("conflict", "the endpoint is no shadow");
      const endpoint: Endpoint = { ...shadow, mode: "live" };
      if (typeof after === "string") {
        const target = await this.#cursorTarget(after, "/after");
        const { startsAt } = target.move;
        await this.#assertWhole("what follows the cursor", { ...stored, endpoint, startsAt }, target.places);
        return { endpoint, ...target };
      }
      assertOwnChannels(after, endpoint, "/after");
      if (others === "ledger") {
        const places = await this.#ledgerPlaces(stored);
        const fromIn = (slot: number): ReadFrom => fromOf(stored, places.get(slot) ?? placeBeforeAll);
        const found = Object.fromEntries(await placesOf(this.#sources, after, fromIn));
        const moved = { ...endpoint, after: found, othersFromLedger: true };
        assertEndpointSize(moved);
        return { endpoint: moved, move: { startsAt: "same" }, places };
      }
      const found = await placesOf(this.#sources, after, fromStart);
      const moved = { ...endpoint, after: Object.fromEntries(found) };
      assertEndpointSize(moved);
      const places = new Map<number, Place>();
      for (const [channel, place] of found) {
        const known = places.get(slotOf(channel));
        places.set(slotOf(channel), known !== undefined && comparePlaces(known, place) < 0 ? known : place);
      }
      return { endpoint: moved, move: { startsAt: "now" }, places };
    });
  }

  /** The places are stored before the generation that they belong to begins. */
  async move(id: string, targetOf: (stored: StoredEndpoint) => Promise<MoveTarget>): Promise<StoredEndpoint> {
    for (let tries = 0; tries < maxTries; tries++) {
      const stored = await readEndpoint(this.#store, id);
      const { endpoint, move, places } = await targetOf(stored);
      const generation = generationAfter(stored);
      const name = cursorName({ ...stored, generation });
      const cursors = [...places].map(([slot, place]) => ({ slot, name, place }));
      await this.#saveAll(cursors);
      const outcome = await this.#store.change(endpoint, stored.version, { ...move, generation });
      if (outcome === "stored") return readEndpoint(this.#store, id);
      await this.#remove(cursors);
    }
    throw new TidegateError("conflict", "other callers keep changing the endpoint: try again");
  }

  /** It continues as a pull with this cursor does. @throws TidegateError `invalid_request` */
  async #cursorTarget(
    text: string,
    path: "/to" | "/after",
  ): Promise<Pick<MoveTarget, "places"> & { move: { startsAt: number } }> {
    const cursor = parseCursor(text);
    if (!cursor) throw invalidPosition([`${path}: must be the cursor of an answer of GET /v1/changes`]);
    const { since } = cursor;
    const times = [...cursor.places.values()].map(timeOf);
    if (cursor.places.size === slotCount) {
      return { move: { startsAt: Math.min(...times) }, places: cursor.places };
    }
    const newest = new Map((await this.#log.figures()).map((figures) => [figures.slot, figures.newest]));
    const unread = (slot: number): Place => {
      const last = newest.get(slot);
      if (since === 0 || last === undefined) return placeBeforeAll;
      // At the end of a slot, so that the endpoint is not behind there until the next change.
      return timeOf(last) < since ? last : placeAtTime(since);
    };
    return {
      // No later than any place, and the places say where each slot begins.
      move: { startsAt: Math.min(since, ...times) },
      places: allAt((slot) => cursor.places.get(slot) ?? unread(slot)),
    };
  }

  /** Stores all cursors. If that fails, removes them again, as far as Redis can be reached. @throws TidegateError */
  async #saveAll(cursors: readonly Cursor[]): Promise<void> {
    if (cursors.length === 0) return;
    try {
      const saved = await this.#log.saveCursors(cursors);
      if (saved.includes(false)) throw new TidegateError("rate_limited", "the change log has too many cursors");
    } catch (error) {
      // The next try has another generation, so its cursors would come on top of these.
      await this.#remove(cursors).catch(() => undefined);
      throw error;
    }
  }

  /** No generation reads from them, and the log would be kept for them. */
  async #remove(cursors: readonly Cursor[]): Promise<void> {
    await this.#log.saveCursors(cursors.map((cursor) => ({ ...cursor, place: undefined })));
  }

  /** Where the shadow's ledger begins. @throws TidegateError `history_trimmed` where it has a gap there */
  async #ledgerPlaces(stored: StoredEndpoint): Promise<ReadonlyMap<number, Place>> {
    const places = await ownPlaces(this.#log, stored);
    await this.#assertWhole("the ledger", stored, places);
    return new Map(everySlot.map((slot) => [slot, places.get(slot) ?? placeBeforeAll]));
  }

  /** @throws TidegateError `history_trimmed` where the log, and the tables, have a gap after the places in slots of its channels */
  async #assertWhole(what: string, stored: StoredEndpoint, places: ReadonlyMap<number, Place>): Promise<void> {
    const slots = channelSlots(stored);
    const trimmed = (await this.#log.figures()).flatMap(({ slot, changes, newest }) => {
      if (!slots.has(slot)) return [];
      const place = places.get(slot) ?? placeBeforeAll;
      return changesBetween(place, newest) > changes ? [{ slot, from: fromOf(stored, place) }] : [];
    });
    const channels = channelsOf(stored.endpoint);
    for (let at = 0; at < trimmed.length; at += searchedAtOnce) {
      const searched = trimmed.slice(at, at + searchedAtOnce);
      const gaps = await Promise.all(
        searched.map(async (query) => this.#gapIn(query, channels, ({ to }) => to >= stored.startsAt)),
      );
      const gap = gapOf(gaps.map((each) => ({ gap: each })));
      if (!gap) continue;
      const until = new Date(gap.to).toISOString();
      throw new TidegateError(
        "history_trimmed",
        `${what} has a gap until ${until}: move the shadow past it with seek, and go live with its ledger`,
      );
    }
  }

  /** The first gap that counts, in the part of the slot that is no longer in the log. Does not notice rows that have left their table. */
  async #gapIn(
    { slot, from }: SlotQuery,
    channels: ReadBounds["channels"],
    counts: (gap: Gap) => boolean,
  ): Promise<Gap | undefined> {
    for (let next = from; ;) {
      const [read] = await this.#log.read([{ slot, from: next }], { ...gapBounds, ...(channels && { channels }) });
      if (read?.gap && counts(read.gap)) return read.gap;
      if (!read?.rows || comparePlaces(read.place, read.rows.until) >= 0) return undefined;
      next = { kind: "after", place: read.place };
    }
  }
}

/**
 * The generation of one try to move an endpoint. A random part tells it from other tries at the same time, whose places may be stored late.
 * It also grows with time: with the next move, places that a failed try left behind belong to an earlier generation, and are swept.
 */
function generationAfter({ generation }: StoredEndpoint): number {
  const ofSecond = Math.floor(Date.now() / 1_000) * generationsPerSecond;
  return Math.max(generation, ofSecond) + 1 + randomInt(generationsPerSecond);
}

/**
 * Rejects channels that are misspelt or listed twice: they would begin elsewhere than the caller means.
 * @param at where the body has the channels
 * @throws TidegateError with every finding
 */
function assertOwnChannels(
  places: readonly ChannelPlace[],
  { channels }: Pick<Endpoint, "channels">,
  at: "/to" | "/after",
): void {
  const findings: string[] = [];
  const listed = new Set<string>();
  for (const { channel } of places) {
    if (listed.has(channel)) findings.push(`${at}: lists ${channel} twice`);
    else if (!channels.some((pattern) => matchesPattern(pattern, channel))) {
      findings.push(`${at}: ${channel} is none of the endpoint's channels`);
    }
    listed.add(channel);
  }
  if (findings.length > 0) throw invalidPosition(findings);
}

function invalidPosition(findings: readonly string[]): TidegateError {
  return new TidegateError("invalid_request", "the position is not valid", { errors: boundFindings(findings) });
}

const fromStart = (): ReadFrom => ({ kind: "start" });

/** An endpoint that begins in the future would look live, and get nothing. @throws TidegateError */
function assertPast(time: number): void {
  if (time <= Date.now() + maxClockDifferenceMs) return;
  throw invalidPosition(['/to/time: is in the future: "end" moves the endpoint past everything that is published']);
}

function allAt(placeIn: (slot: number) => Place): ReadonlyMap<number, Place> {
  return new Map(everySlot.map((slot) => [slot, placeIn(slot)]));
}
