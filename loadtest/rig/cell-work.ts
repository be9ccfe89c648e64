/** Publishes, queued events and webhooks at a steady rate, whose slots belong to one cell. */
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { identityKey } from "../../shared/protocol/identity-key.ts";
import { slotOfQueue } from "../../shared/queues/keys.ts";
import { slotOf } from "../../shared/redis/slots.ts";
import { RawClient } from "../../test/support/raw-client.ts";
import { Histogram } from "../checks/histogram.ts";
import { loadToken } from "../clients/load-token.ts";
import type { OwnDeployment } from "./fleet.ts";
import { serviceSecret } from "./service-secret.ts";

/** Many, so that items of one key rarely wait for each other. */
const names = 128;
const answerWithinMs = 10_000;
/** Calls of one kind that are under way: what comes beyond is left out. */
const maxUnderWay = 200;

export const kinds = ["publish → socket", "event → service", "webhook → 2xx"] as const;
export type Kind = (typeof kinds)[number];

export function workRules(serviceUrl: string): object {
  return {
    namespaces: { load: { historySize: 100 } },
    services: { sink: { url: serviceUrl, secret: serviceSecret } },
    routes: [
      { event: "edit", service: "sink", path: "/edit", mode: "enqueue", key: "/doc" },
      { event: "hook", service: "sink", path: "/hook", mode: "enqueue" },
    ],
    sources: { load: { verify: "none", key: "body:/doc", route: "hook" } },
  };
}

/** The service of both works; an event carries when it was sent. */
export class WorkSink {
  onEvent: (doc: string, sentAt: number) => void = () => undefined;
  readonly #server: Server = createServer((request, response) => void this.#take(request).then(() => response.end()));

  async start(): Promise<string> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  stop(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }

  async #take(request: IncomingMessage): Promise<void> {
    const arrivedAt = performance.now();
    const chunks = (await request.toArray()) as Buffer[];
    const { doc, at } = JSON.parse(Buffer.concat(chunks).toString()) as { doc: string; at: number };
    if (request.url?.endsWith("/edit")) this.onEvent(doc, arrivedAt - at);
  }
}

export interface WorkFigures {
  readonly tookMs: ReadonlyMap<Kind, Histogram>;
  readonly failed: number;
  /** Left out, because too many calls were under way. */
  readonly skipped: number;
}

export class CellWork {
  #tookMs = new Map<Kind, Histogram>();
  #failed = 0;
  #skipped = 0;
  readonly #deployment: OwnDeployment;
  readonly #client: RawClient;
  readonly #channels: readonly string[];
  readonly #docs: readonly string[];
  readonly #timers: NodeJS.Timeout[] = [];
  readonly #underWay = new Map<Kind, Set<Promise<void>>>(kinds.map((kind) => [kind, new Set()]));

  /** @param isOwn whether a slot belongs to the cell */
  static async connect(deployment: OwnDeployment, isOwn: (slot: number) => boolean): Promise<CellWork> {
    const user =
      first(
        (n) => `user-${n}`,
        (name) => isOwn(slotOf(identityKey({ user: name }))),
        1,
      )[0] ?? "";
    const channels = first(
      (n) => `load:${n}`,
      (name) => isOwn(slotOf(name)),
      names,
    );
    const docs = first(
      (n) => `doc-${n}`,
      (key) => isOwn(slotOfQueue({ service: "sink", tenant: "", key })),
      names,
    );
    const token = await loadToken(deployment.jwtSecret, user, { channels: ["load:*"] });
    const client = await RawClient.connect(new URL(deployment.gatewayUrls[0]?.replace("ws", "http") ?? ""), token);
    for (const channel of channels) await client.subscribe(channel);
    return new CellWork(deployment, client, { channels, docs });
  }

  private constructor(
    deployment: OwnDeployment,
    client: RawClient,
    { channels, docs }: { channels: readonly string[]; docs: readonly string[] },
  ) {
    this.#deployment = deployment;
    this.#client = client;
    this.#channels = channels;
    this.#docs = docs;
    client.onEvent = (event, data) => {
      if (event === "tick") this.#took("publish → socket", performance.now() - (data as { at: number }).at);
    };
  }

  /** An event of this work has reached the service. */
  takeEvent(doc: string, tookMs: number): void {
    if (this.#docs.includes(doc)) this.#took("event → service", tookMs);
  }

  /** Since the last call. */
  takeFigures(): WorkFigures {
    const figures = { tookMs: this.#tookMs, failed: this.#failed, skipped: this.#skipped };
    [this.#tookMs, this.#failed, this.#skipped] = [new Map(), 0, 0];
    return figures;
  }

  start(perSecond: number): void {
    const works: Record<Kind, (n: number) => Promise<void>> = {
      "publish → socket": async (n) => this.#publish(n),
      "event → service": async (n) => this.#emit(n),
      "webhook → 2xx": async (n) => this.#hook(n),
    };
    for (const kind of kinds) {
      let n = 0;
      this.#timers.push(setInterval(() => this.#begin(kind, async () => works[kind](n++)), 1_000 / perSecond));
    }
  }

  async stop(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer);
    await Promise.all([...this.#underWay.values()].flatMap((calls) => [...calls]));
    this.#client.socket.destroy();
  }

  #begin(kind: Kind, work: () => Promise<void>): void {
    const calls = this.#underWay.get(kind) ?? new Set();
    if (calls.size >= maxUnderWay) {
      this.#skipped++;
      return;
    }
    const call = work()
      .catch(() => void this.#failed++)
      .finally(() => calls.delete(call));
    calls.add(call);
  }

  async #publish(n: number): Promise<void> {
    const { privateApi, privateApiToken } = this.#deployment;
    const body = { channel: this.#channels[n % names], event: "tick", data: { at: performance.now() } };
    await post(`${privateApi}/v1/publish`, body, { authorization: `Bearer ${privateApiToken}` });
  }

  async #emit(n: number): Promise<void> {
    const answer = await this.#client.request("edit", { doc: this.#docs[n % names], at: performance.now() });
    if ((answer as { ok: boolean }).ok) return;
    throw new Error("the event was refused");
  }

  async #hook(n: number): Promise<void> {
    const url = `${this.#deployment.gatewayUrls[0]?.replace("ws", "http")}/hooks/load`;
    const sentAt = performance.now();
    await post(url, { doc: this.#docs[n % names], at: sentAt }, {});
    this.#took("webhook → 2xx", performance.now() - sentAt);
  }

  #took(kind: Kind, ms: number): void {
    const histogram = this.#tookMs.get(kind) ?? new Histogram();
    this.#tookMs.set(kind, histogram);
    histogram.add(ms);
  }
}

async function post(url: string, body: object, headers: Record<string, string>): Promise<void> {
  const answer = await fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(answerWithinMs),
  });
  await answer.arrayBuffer();
  if (!answer.ok) throw new Error(`${url} answered ${answer.status}`);
}

function first(nameOf: (n: number) => string, isWanted: (name: string) => boolean, count: number): string[] {
  const found: string[] = [];
  for (let n = 0; found.length < count; n++) if (isWanted(nameOf(n))) found.push(nameOf(n));
  return found;
}
