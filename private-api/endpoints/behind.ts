/** Endpoints that are behind in a slot: each got the log up to a place of its own. Tracks as well which places have to be stored. Pure. */
import type { Place } from "../../shared/changes/contract.ts";
import type { StoredEndpoint } from "../../shared/endpoints/contract.ts";
import { endpointOfService, endpointService } from "../../shared/endpoints/endpoint.ts";

/** The cursor of all endpoints that are not behind. */
export const readerCursor = "endpoints";

/** The name of an endpoint's cursor in each slot. A move begins a generation, which has cursors of its own. */
export function cursorName({ endpoint: { id }, generation }: StoredEndpoint): string {
  return `${endpointService(id)}/${generation}`;
}

/** The inverse of {@link cursorName}. @returns undefined for the cursor of another consumer */
export function parseCursorName(name: string): { id: string; generation: number } | undefined {
  const at = name.lastIndexOf("/");
  const id = endpointOfService(name.slice(0, at));
  return id === undefined ? undefined : { id, generation: Number(name.slice(at + 1)) };
}

const stopPrefix = "stop/";

/** The cursor of a stop: in it the reader of each slot stores up to where it has queued for the endpoint. Undefined: the endpoint is not stopping. */
export function stopName({ endpoint: { id, stopping } }: StoredEndpoint): string | undefined {
  return stopping === undefined ? undefined : `${stopPrefix}${id}/${stopping}`;
}

/** The inverse of {@link stopName}. @returns the id of the endpoint; undefined for the cursor of another consumer */
export function endpointOfStop(name: string): string | undefined {
  return name.startsWith(stopPrefix) ? name.slice(stopPrefix.length, name.lastIndexOf("/")) : undefined;
}

interface Entry {
  /** The endpoint got everything up to here. */
  place: Place;
  /** Of its cursor. */
  name: string;
}

export interface UnsavedCursor {
  readonly slot: number;
  readonly name: string;
  /** Undefined: it is to be removed. */
  readonly place: Place | undefined;
}

export class Behind {
  /** By endpoint, then by slot. A slot goes behind the others when it gets a place: they take turns in this order. */
  readonly #entries = new Map<string, Map<number, Entry>>();
  readonly #unsaved = new Map<string, UnsavedCursor>();

  get endpoints(): Iterable<string> {
    return this.#entries.keys();
  }

  get isEmpty(): boolean {
    return this.#entries.size === 0;
  }

  has(id: string, slot: number): boolean {
    return this.#entries.get(id)?.has(slot) ?? false;
  }

  /** Of one endpoint. */
  places(id: string): ReadonlyMap<number, Readonly<Entry>> {
    return this.#entries.get(id) ?? none;
  }

  /** Sets a place that is stored already. */
  load(stored: StoredEndpoint, slot: number, place: Place): void {
    const { id } = stored.endpoint;
    const bySlot = this.#entries.get(id) ?? new Map<number, Entry>();
    this.#entries.set(id, bySlot);
    bySlot.delete(slot);
    bySlot.set(slot, { place, name: cursorName(stored) });
  }

  set(stored: StoredEndpoint, slot: number, place: Place): void {
    this.load(stored, slot, place);
    this.#note({ slot, name: cursorName(stored), place });
  }

  /** The endpoint has caught up with the others in the slot. */
  join(id: string, slot: number): void {
    const entry = this.#entries.get(id)?.get(slot);
    if (!entry) return;
    this.#drop(id, slot);
    this.#note({ slot, name: entry.name, place: undefined });
  }

  /** The endpoint is gone, or has new places. */
  forget(id: string): void {
    for (const slot of [...this.places(id).keys()]) this.join(id, slot);
  }

  /** Another process reads the slot. */
  lose(slot: number): void {
    for (const id of [...this.#entries.keys()]) this.#drop(id, slot);
    for (const [key, unsaved] of this.#unsaved) if (unsaved.slot === slot) this.#unsaved.delete(key);
  }

  get unsaved(): readonly UnsavedCursor[] {
    return [...this.#unsaved.values()];
  }

  saved(cursor: UnsavedCursor): void {
    const key = keyOf(cursor);
    if (this.#unsaved.get(key) === cursor) this.#unsaved.delete(key);
  }

  #note(cursor: UnsavedCursor): void {
    this.#unsaved.set(keyOf(cursor), cursor);
  }

  #drop(id: string, slot: number): void {
    const bySlot = this.#entries.get(id);
    bySlot?.delete(slot);
    if (bySlot?.size === 0) this.#entries.delete(id);
  }
}

const none: ReadonlyMap<number, Entry> = new Map();

function keyOf({ slot, name }: UnsavedCursor): string {
  return `${slot} ${name}`;
}
