import { begun } from "./beginning.ts";
import type { ChangedEndpoints, EndpointChange, EndpointStore, Move, StoredEndpoint } from "./contract.ts";
import { type Endpoint, maxEndpoints } from "./endpoint.ts";

/** The endpoints of a single process, lost when it ends. */
export class MemoryEndpointStore implements EndpointStore {
  readonly #stored = new Map<string, StoredEndpoint>();
  readonly #listeners: (() => void)[] = [];
  /** The version of the last change of each. */
  readonly #changed = new Map<string, number>();
  #version = 0;

  async start(): Promise<void> {}
  async stop(): Promise<void> {}

  async create(endpoint: Endpoint): Promise<StoredEndpoint | undefined> {
    if (this.#stored.size >= maxEndpoints) return undefined;
    const now = Date.now();
    const stored = {
      endpoint,
      version: this.#nextVersion(endpoint.id),
      startsAt: now + 1,
      createdAt: now,
      generation: 0,
      validFrom: 0,
    };
    this.#stored.set(endpoint.id, stored);
    this.#notify();
    await begun();
    return stored;
  }

  async read(id: string): Promise<StoredEndpoint | undefined> {
    return this.#stored.get(id);
  }

  async change(endpoint: Endpoint, ifVersion: number, move?: Move): Promise<EndpointChange> {
    const stored = this.#stored.get(endpoint.id);
    if (!stored) return "none";
    if (stored.version !== ifVersion) return "changed_meanwhile";
    const moved = move && movedFrom(stored, move);
    this.#stored.set(endpoint.id, { ...stored, endpoint, version: this.#nextVersion(endpoint.id), ...moved });
    this.#notify();
    if (move?.startsAt === "now") await begun();
    return "stored";
  }

  async remove(id: string): Promise<boolean> {
    if (!this.#stored.delete(id)) return false;
    this.#nextVersion(id);
    this.#notify();
    return true;
  }

  async readSince(version: number): Promise<ChangedEndpoints> {
    const isAll = version < 0 || version > this.#version;
    const since = isAll ? -1 : version;
    const changed = [...this.#changed].filter(([, changedAt]) => changedAt > since).map(([id]) => id);
    const endpoints = changed.flatMap((id) => this.#stored.get(id) ?? []);
    const removed = changed.filter((id) => !this.#stored.has(id));
    return { version: this.#version, isAll, endpoints, removed };
  }

  async version(): Promise<number> {
    return this.#version;
  }

  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }

  #nextVersion(id: string): number {
    this.#changed.set(id, ++this.#version);
    return this.#version;
  }

  #notify(): void {
    for (const listener of this.#listeners) listener();
  }
}

function movedFrom(
  stored: StoredEndpoint,
  { generation, startsAt, keepsQueued = false }: Move,
): Pick<StoredEndpoint, "startsAt" | "generation" | "validFrom"> {
  return {
    startsAt: startsAt === "same" ? stored.startsAt : startsAt === "now" ? Date.now() + 1 : startsAt,
    generation,
    validFrom: keepsQueued ? stored.validFrom : generation,
  };
}
