/** Moves endpoints in the log: replays, and the cut-over of a shadow. */
import { type ChangeLog, type Place, placeBeforeAll, type ReadFrom } from "../../shared/changes/contract.ts";
import { comparePlaces, timeOf } from "../../shared/changes/places.ts";
import type { EndpointStore, Move, StoredEndpoint } from "../../shared/endpoints/contract.ts";
import type { Endpoint } from "../../shared/endpoints/endpoint.ts";
import { everySlot, slotCount, slotOf } from "../../shared/redis/slots.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import { parseCursor } from "../changes/pull-cursor.ts";
import { cursorName } from "./behind.ts";
import { readEndpoint } from "./change-endpoint.ts";

export interface ChannelPlace {
  channel: string;
  offset: number;
}

export type SeekTarget = "start" | "end" | { time: number } | ChannelPlace | { cursor: string };

/** Where an endpoint continues. */
interface Target {
  move: Move;
  /** Its places in slots; in others it gets what the others get. */
  places: ReadonlyMap<number, Place>;
  endpoint: Endpoint;
}

/** Others change the same endpoint at the same moment, again and again. */
const maxTries = 10;
/** Of one channel, while its place is looked for. */
const searchBounds = { limit: 1_000, maxBytes: 4 * 1024 * 1024 };

export class EndpointMoves {
  readonly #store: EndpointStore;
  readonly #log: ChangeLog;

  constructor(store: EndpointStore, log: ChangeLog) {
    this.#store = store;
    this.#log = log;
  }

  /** @throws TidegateError `invalid_request`, `history_trimmed` */
  async seek(id: string, to: SeekTarget): Promise<StoredEndpoint> {
    return this.#move(id, async (stored) => {
      const { after: _after, ...endpoint } = stored.endpoint;
      if (to === "end") return { endpoint, move: { startsAt: "now" }, places: new Map() };
      if (to === "start") return { endpoint, move: { startsAt: 0 }, places: allAt(() => placeBeforeAll) };
      if ("time" in to) return { endpoint, move: { startsAt: to.time }, places: allAt(() => placeBeforeAll) };
      if ("cursor" in to) return { endpoint, ...cursorTarget(to.cursor) };
      // Nothing but this slot moves: the places in others, and what is queued, stay.
      const known = await this.#log.cursors(everySlot, cursorName(stored));
      const places = new Map(known.map(({ slot, place }) => [slot, place]));
      const found = await this.#placeOf(to);
      places.set(slotOf(to.channel), found);
      const startsAt = found === placeBeforeAll ? 0 : Math.min(stored.startsAt, timeOf(found));
      return { endpoint, move: { startsAt, keepsQueued: true }, places };
    });
  }

  /** @throws TidegateError `invalid_request`, `conflict` where it is no shadow, `history_trimmed` */
  async goLive(id: string, after: string | readonly ChannelPlace[]): Promise<StoredEndpoint> {
    return this.#move(id, async (stored) => {
      const { after: _after, ...shadow } = stored.endpoint;
      if (shadow.mode !== "shadow") throw new TidegateError("conflict", "the endpoint is no shadow");
      const endpoint: Endpoint = { ...shadow, mode: "live" };
      if (typeof after === "string") return { endpoint, ...cursorTarget(after) };
      const places = new Map<number, Place>();
      for (const each of after) {
        const slot = slotOf(each.channel);
        const place = await this.#placeOf(each);
        const known = places.get(slot);
        places.set(slot, known !== undefined && comparePlaces(known, place) < 0 ? known : place);
      }
      const offsets = Object.fromEntries(after.map(({ channel, offset }) => [channel, offset]));
      return { endpoint: { ...endpoint, after: offsets }, move: { startsAt: "now" }, places };
    });
  }

  /** The places are stored before the generation that they belong to begins. */
  async #move(id: string, targetOf: (stored: StoredEndpoint) => Promise<Target>): Promise<StoredEndpoint> {
    for (let tries = 0; tries < maxTries; tries++) {
      const stored = await readEndpoint(this.#store, id);
      const { endpoint, move, places } = await targetOf(stored);
      const name = cursorName({ ...stored, generation: stored.generation + 1 });
      const cursors = [...places].map(([slot, place]) => ({ slot, name, place }));
      const saved = cursors.length === 0 ? [] : await this.#log.saveCursors(cursors);
      if (saved.includes(false)) throw new TidegateError("rate_limited", "the change log has too many cursors");
      const outcome = await this.#store.change(endpoint, stored.version, move);
      if (outcome === "stored") return readEndpoint(this.#store, id);
    }
    throw new TidegateError("conflict", "others changed the endpoint meanwhile: try again");
  }

  /** Of the change at the offset: the next one is sent. */
  async #placeOf({ channel, offset }: ChannelPlace): Promise<Place> {
    const slot = slotOf(channel);
    let from: ReadFrom = { kind: "start" };
    let place: Place = placeBeforeAll;
    for (;;) {
      const channels = { names: [channel], prefixes: [] };
      const [read] = await this.#log.read([{ slot, from }], { ...searchBounds, channels });
      if (!read) return place;
      for (const change of read.changes) {
        if (change.offset > offset) {
          if (change.prev <= offset) return place;
          throw new TidegateError(
            "history_trimmed",
            `the log no longer has what follows offset ${offset} of ${channel}`,
          );
        }
        place = change.place;
        if (change.offset === offset) return place;
      }
      if (read.place === read.newest) return read.changes.length === 0 ? place : read.newest;
      from = { kind: "after", place: read.place };
    }
  }
}

function cursorTarget(text: string): Pick<Target, "move" | "places"> {
  const cursor = parseCursor(text);
  if (!cursor) throw new TidegateError("invalid_request", "cursor: must be that of an answer of GET /v1/changes");
  const times = [...cursor.places.values()].map(timeOf);
  const startsAt = cursor.places.size === slotCount ? Math.min(...times) : Math.min(cursor.since, ...times);
  return { move: { startsAt }, places: allAt((slot) => cursor.places.get(slot) ?? placeBeforeAll) };
}

function allAt(placeIn: (slot: number) => Place): ReadonlyMap<number, Place> {
  return new Map(everySlot.map((slot) => [slot, placeIn(slot)]));
}
