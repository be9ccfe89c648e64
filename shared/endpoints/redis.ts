import type { Cells } from "../redis/cells.ts";
import { ChangeTopic } from "../redis/change-topic.ts";
import { script } from "../redis/scripts.ts";
import { begun } from "./beginning.ts";
import type { ChangedEndpoints, EndpointChange, EndpointStore, Move, StoredEndpoint } from "./contract.ts";
import { type Endpoint, maxEndpoints } from "./endpoint.ts";
import { endpointKeys, parseEndpoint } from "./keys.ts";

const putScript = script<[kind: EndpointChange | "full", head: string]>(
  new URL("put-endpoint.lua", import.meta.url),
  3,
);
const removeScript = script<0 | 1>(new URL("remove-endpoint.lua", import.meta.url), 3);

/** Endpoints that one command reads: up to 13 MB if each is as large as {@link maxEndpointBytes} allows. */
const readAtOnce = 200;

/** The endpoints of a deployment. */
export class RedisEndpointStore implements EndpointStore {
  readonly #cells: Cells;
  readonly #keys: ReturnType<typeof endpointKeys>;
  readonly #changes: ChangeTopic;

  constructor(cells: Cells) {
    this.#cells = cells;
    this.#keys = endpointKeys(cells.fleet.root);
    this.#changes = new ChangeTopic(cells, this.#keys.topic);
  }

  async start(): Promise<void> {
    await this.#changes.start();
  }

  async stop(): Promise<void> {
    await this.#changes.stop();
  }

  async create(endpoint: Endpoint): Promise<StoredEndpoint | undefined> {
    const { kind, head } = await this.#put(endpoint, "new");
    return kind === "full" ? undefined : parseEndpoint(`${head}\n${JSON.stringify(endpoint)}`);
  }

  async read(id: string): Promise<StoredEndpoint | undefined> {
    const text = await this.#cells.fleet.run<string | null>("hget", this.#keys.documents, id);
    return text === null ? undefined : parseEndpoint(text);
  }

  async change(endpoint: Endpoint, ifVersion: number, move?: Move): Promise<EndpointChange> {
    const { kind } = await this.#put(endpoint, String(ifVersion), move);
    return kind === "full" ? "none" : kind;
  }

  async remove(id: string): Promise<boolean> {
    const { documents, versions, changed, topic } = this.#keys;
    return (await this.#cells.fleet.run(removeScript, documents, versions, changed, id, topic)) === 1;
  }

  async readSince(version: number): Promise<ChangedEndpoints> {
    const { documents, versions, changed } = this.#keys;
    // Read first: what changes in between is read as well, and again next time.
    const known = await this.#cells.fleet.run<(string | null)[]>("hmget", versions, "last", "floor");
    const [last = 0, floor = 0] = known.map(Number);
    if (version < floor || version < 0 || version > last) {
      return { version: last, isAll: true, endpoints: await this.#readAll(), removed: [] };
    }
    const ids = await this.#cells.fleet.run<string[]>("zrangebyscore", changed, `(${version}`, "+inf");
    const endpoints: StoredEndpoint[] = [];
    const removed: string[] = [];
    for (let at = 0; at < ids.length; at += readAtOnce) {
      const asked = ids.slice(at, at + readAtOnce);
      const texts = await this.#cells.fleet.run<(string | null)[]>("hmget", documents, ...asked);
      for (const [index, text] of texts.entries()) {
        if (text === null) removed.push(asked[index] ?? "");
        else endpoints.push(...parsed(text));
      }
    }
    return { version: last, isAll: false, endpoints, removed };
  }

  async version(): Promise<number> {
    return Number(await this.#cells.fleet.run<string | null>("hget", this.#keys.versions, "last"));
  }

  onChange(listener: () => void): void {
    this.#changes.listen(listener);
  }

  /** One that changes meanwhile may be among them twice, the later one last. */
  async #readAll(): Promise<readonly StoredEndpoint[]> {
    const endpoints: StoredEndpoint[] = [];
    let from = "0";
    do {
      const page = ["COUNT", readAtOnce] as const;
      const [next, found] = await this.#cells.fleet.run<[string, string[]]>(
        "hscan",
        this.#keys.documents,
        from,
        ...page,
      );
      // HSCAN gives the value after each name.
      for (const [at, text] of found.entries()) if (at % 2 === 1) endpoints.push(...parsed(text));
      from = next;
    } while (from !== "0");
    return endpoints;
  }

  async #put(
    endpoint: Endpoint,
    ifVersion: string,
    move?: Move,
  ): Promise<{ kind: EndpointChange | "full"; head: string }> {
    const { documents, versions, changed, topic } = this.#keys;
    const [kind, head] = await this.#cells.fleet.run(
      putScript,
      ...[
        documents,
        versions,
        changed,
        endpoint.id,
        JSON.stringify(endpoint),
        ifVersion,
        move?.startsAt ?? "",
        move?.keepsQueued ? 1 : 0,
        move?.generation ?? "",
        maxEndpoints,
        topic,
      ],
    );
    if (kind === "stored" && (ifVersion === "new" || move?.startsAt === "now")) await begun();
    return { kind, head };
  }
}

/** Without one that this version cannot read. */
function parsed(text: string): readonly StoredEndpoint[] {
  const endpoint = parseEndpoint(text);
  return endpoint ? [endpoint] : [];
}
