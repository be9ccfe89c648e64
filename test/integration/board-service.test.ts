/** The demo's service alone: restarts, and two processes on one board. */
import { once } from "node:events";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Card } from "../../examples/board/board.ts";
import { createBoardService } from "../../examples/board/service.ts";
import type { Position } from "../../shared/protocol/wire.ts";
import { eventually } from "../support/eventually.ts";
import { metricsOf } from "../support/gateway-metrics.ts";
import { type Fleet, serviceSecret, startFleet, tokens } from "../support/fleet.ts";
import { freePort } from "../support/processes.ts";
import { type Answer, closeClients, connectClient, type StockClient } from "../support/stock-client.ts";

let fleet: Fleet;
let client: StockClient;
let servers: Server[];

interface Snapshot {
  position: Position;
  cards: Card[];
}

beforeEach(async () => {
  fleet = await startFleet({});
  servers = [];
  const urls = [await startProcess(), await startProcess()];
  await putRules(urls);
  client = await connectClient(fleet.urls[0] ?? "");
});
afterEach(async () => {
  closeClients();
  for (const server of servers) await stopProcess(server);
  await fleet.stop();
});

/** @param urls of two processes of the service @param add how a new card reaches the first of them */
async function putRules(urls: readonly string[], add: object = { mode: "call" }): Promise<void> {
  const services = urls.map((url, i) => [`board-${i + 1}`, { url, secret: serviceSecret }]);
  const route = (event: string, service: string): object => ({
    event,
    service,
    path: "/events/{event}",
    mode: "call",
  });
  const { body } = await fleet.api("PUT", "/v1/rules", {
    namespaces: { board: { historySize: 5 } },
    services: Object.fromEntries(services) as object,
    routes: [
      route("board.load", "board-1"),
      route("card.*", "board-1"),
      { ...route("card.add", "board-1"), ...add },
      route("card.rename", "board-2"),
      route("card.remove", "board-2"),
      route("cursor", "board-1"),
    ],
  });
  await eventually(async () =>
    (await metricsOf(fleet.gateways, "rules_version")).every((value) => value === body["version"]),
  );
}

/** One process of the service, with its own memory. @param port of one that has stopped */
async function startProcess(port?: number): Promise<string> {
  const options = { secret: serviceSecret, privateApiUrl: fleet.apiUrl, publishToken: tokens.service };
  const server = createBoardService(options).listen(port ?? (await freePort()), "127.0.0.1");
  await once(server, "listening");
  servers.push(server);
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function stopProcess(server: Server): Promise<number> {
  const { port } = server.address() as AddressInfo;
  server.closeAllConnections();
  server.close();
  await once(server, "close");
  servers = servers.filter((other) => other !== server);
  return port;
}

/** Undefined: the call failed. */
async function tryToLoad(): Promise<Snapshot | undefined> {
  return (await client.request("board.load", { board: "b" })).data as Snapshot | undefined;
}

async function load(): Promise<Snapshot> {
  const loaded = await tryToLoad();
  if (!loaded) throw new Error("the board was not loaded");
  return loaded;
}

function act(event: string, data: object, position: Position, id?: string): Promise<Answer> {
  return client.request(event, { board: "b", ...data, position }, id === undefined ? {} : { id });
}

function cardOf({ cards }: Snapshot, id: string): Card | undefined {
  return cards.find((card) => card.id === id);
}

test("DEMO-4: a restarted service continues from the position in the channel's history", async () => {
  const start = await load();
  const moved = await act("card.move", { id: "starter-0", column: "done", order: 9 }, start.position);
  expect(moved).toMatchObject({ ok: true, data: { position: { offset: 1 }, by: "ada" } });
  const before = await load();
  const [first] = servers;
  await startProcess(first && (await stopProcess(first)));

  const after = await load();
  expect(after.position).toEqual(before.position);
  expect(cardOf(after, "starter-0")).toMatchObject({ column: "done", order: 9 });
  const stale = await act("card.move", { id: "starter-0", column: "doing", order: 1 }, start.position);
  expect(stale.error).toMatchObject({ code: "conflict", status: 409, details: { position: before.position } });
  const fresh = await act("card.move", { id: "starter-0", column: "doing", order: 1 }, after.position);
  expect(fresh).toMatchObject({ ok: true, data: { position: { offset: 2 } } });
});

test("DEMO-4: two processes change one board, and neither undoes the other's changes", async () => {
  const { position } = await load();
  const renamed = await act("card.rename", { id: "starter-1", title: "Renamed" }, position);
  const { position: then } = renamed.data as Snapshot;
  await act("card.move", { id: "starter-1", column: "done", order: 5 }, then);
  expect(cardOf(await load(), "starter-1")).toMatchObject({ title: "Renamed", column: "done", order: 5 });

  const here = (await load()).position;
  const answers = await Promise.all([
    act("card.move", { id: "starter-2", column: "done", order: 7 }, here),
    act("card.rename", { id: "starter-2", title: "Mine" }, here),
  ]);
  expect(answers.filter(({ ok }) => ok)).toHaveLength(1);
  const [lost] = answers.flatMap(({ error }) => error ?? []);
  const [won] = answers.flatMap(({ data }) => (data as Snapshot | undefined) ?? []);
  const { epoch, offset } = won?.position ?? here;
  expect(lost).toMatchObject({
    code: "conflict",
    details: { position: { epoch, offset }, publications: [{ offset }] },
  });
});

test("DEMO-4: a repeated action takes effect once, also in another process", async () => {
  const { position } = await load();
  const first = await act("card.add", { title: "Once", column: "todo" }, position, "action-1");
  const [process] = servers;
  await startProcess(process && (await stopProcess(process)));
  expect(await act("card.add", { title: "Once", column: "todo" }, position, "action-1")).toEqual(first);
  const { cards } = await load();
  expect(cards.filter(({ title }) => title === "Once")).toHaveLength(1);
});

test("DEMO-6: cards that are added while the service is down appear once it is back, in order and once", async () => {
  const [first] = servers;
  const urls = servers.map((server) => `http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  await putRules(urls, { mode: "enqueue", key: "/board", retry: { minMs: 1, maxMs: 50 } });
  const port = first && (await stopProcess(first));
  const titles = ["One", "Two", "Three"];
  for (const title of titles) {
    expect(await client.request("card.add", { board: "b", title, column: "todo" })).toMatchObject({ queued: true });
  }
  await startProcess(port);
  // While its circuit is open the service gets no call either.
  const added = async (): Promise<string[]> => {
    const { cards } = (await tryToLoad()) ?? { cards: [] };
    return cards.filter(({ author }) => author === "ada").map(({ title }) => title);
  };
  await eventually(async () => (await added()).length === titles.length);
  expect(await added()).toEqual(titles);
});

test("DEMO-4: the service continues from a trimmed history and ignores events that are no cards", async () => {
  let { position } = await load();
  for (let order = 1; order <= 6; order++) {
    const { data } = await act("card.move", { id: "starter-3", column: "doing", order }, position);
    ({ position } = data as Snapshot);
  }
  await fleet.api("POST", "/v1/publish", { channel: "board:b", event: "notice", data: { text: "Hello" } });
  const removed = await act("card.remove", { id: "starter-0" }, { ...position, offset: position.offset + 1 });
  expect(removed).toMatchObject({ ok: true, data: { id: "starter-0", position: { offset: 8 } } });
  expect(cardOf(await load(), "starter-0")).toBeUndefined();
  expect(cardOf(await load(), "starter-3")).toMatchObject({ column: "doing", order: 6 });
});

test("DEMO-4: what is no name of a card or of a tab is refused", async () => {
  const { position } = await load();
  for (const id of [{ toString: 1 }, ["starter-0"], null, 5]) {
    const refused = await act("card.move", { id, column: "done", order: 1 }, position);
    expect(refused.error).toMatchObject({ code: "unknown_card", status: 404 });
  }
  const cursor = await act("cursor", { tab: { toString: 1 }, x: 1, y: 1 }, position);
  expect(cursor.error).toMatchObject({ code: "bad_input", status: 400 });
});
