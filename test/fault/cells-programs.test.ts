/** Cells with real programs: private APIs that are killed while they move slots, and a fleet whose cell is added and drained. */
import { afterAll, afterEach, beforeAll, expect, onTestFinished, test } from "vitest";
import type { Stores } from "../../shared/program/stores.ts";
import { moveSteps } from "../../shared/redis/cell-map.ts";
import { slotOfQueue } from "../../shared/queues/keys.ts";
import { slotOf } from "../../shared/redis/slots.ts";
import { startTwoCells, type TwoCells } from "../support/cells.ts";
import { eventually } from "../support/eventually.ts";
import { serviceSecret, startFleet, tokens } from "../support/fleet.ts";
import { startService } from "../support/http-service.ts";
import { type PrivateApiProcess, spawnPrivateApi } from "../support/private-api-process.ts";
import { type Spawned, spawnProcess } from "../support/processes.ts";
import { repeat } from "../support/repeat.ts";
import { closeClients, connectClient } from "../support/stock-client.ts";

const retention = { historySize: 100_000, historySeconds: 300 };

let twoCells: TwoCells;
let mine: Stores;
let other: Stores;
const spawned: Spawned[] = [];

beforeAll(async () => {
  twoCells = await startTwoCells();
  mine = await twoCells.open();
  other = await twoCells.open();
});
afterEach(async () => {
  closeClients();
  for (const process of spawned) process.kill("SIGKILL");
  await Promise.all(spawned.splice(0).map(async ({ exited }) => exited));
});
afterAll(async () => twoCells.stop());

async function startPrivateApi(): Promise<PrivateApiProcess> {
  return spawnPrivateApi({ REDIS_CELLS: twoCells.setting }, spawned);
}

async function post(url: string, body: object): Promise<Response> {
  return fetch(url, {
    method: "POST",
    headers: { authorization: `Bearer ${tokens.service}`, "content-type": "application/json" },
    body: JSON.stringify(body),
  });
}

/**
 * Orders one slot. Where a Redis that waits for a core does not answer in time, the order is refused (STALL-1), or stored although the
 * API does not know: it is given until it is accepted, or its slot moves.
 */
async function take(url: string, cell: string, slot: number): Promise<void> {
  let wasRefused = false;
  await eventually(async () => {
    const answer = await post(`${url}/v1/cells/${cell}/take`, { slots: String(slot) });
    const { code } = (await answer.json()) as { code?: string };
    if (code === "broker_unavailable") wasRefused = true;
    else if (!wasRefused || code !== "conflict") expect(answer.status).toBe(202);
    return code !== "broker_unavailable";
  });
}

/** The command for operators. @returns what it prints with `--json`. */
async function cells(
  apiUrl: string,
  ...args: string[]
): Promise<{ code: number | null; result: unknown; output: string }> {
  const command = spawnProcess(process.execPath, ["deploy/cells.ts", ...args, "--api", apiUrl, "--json"], {
    env: { TIDEGATE_API_TOKEN: tokens.service },
  });
  spawned.push(command);
  const code = await command.exited;
  const output = command.output();
  return { code, result: code === 0 ? (JSON.parse(output) as unknown) : undefined, output };
}

for (const step of moveSteps.filter((step) => step !== "waiting" && step !== "aborting")) {
  test(`CELL-7: another private API completes a move whose mover is killed at ${step}`, async () => {
    const channel = `board:killed-${step}`;
    const slot = slotOf(channel);
    const to = mine.cellMaps.map.owners[slot] === "a" ? "b" : "a";
    const seen: number[] = [];
    other.broker.listen({
      onPublication: (name, _epoch, { data }) => void (name === channel && seen.push(Number(data))),
      onEphemeral: () => undefined,
      onUserMessage: () => undefined,
      onRestored: () => undefined,
    });
    await other.broker.follow({ kind: "channel", name: channel });
    let published = 0;
    const publishing = repeat(async () => {
      const request = { channel, event: "e", data: String(published), id: String(published), retention };
      // Refused while the slot is closed for long: the same publication again.
      const done = await mine.broker.publish(request).then(
        () => true,
        () => false,
      );
      if (done) published++;
    });
    const first = await startPrivateApi();
    await take(first.url, to, slot);
    await first.process.printed(`"step":"${step}"`);
    first.process.kill("SIGKILL");
    await first.process.exited;
    await startPrivateApi();
    await eventually(async () => (await mine.cellMaps.refresh()).moves.length === 0);
    expect(mine.cellMaps.map.owners[slot]).toBe(to);
    const before = published;
    await eventually(() => published > before + 20);
    await publishing.stop();
    await eventually(() => seen.length >= published);
    expect(seen).toEqual(Array.from({ length: published }, (_, at) => at));
    const { publications } = await other.broker.readHistory({ channel, retention, limit: 100_000, maxBytes: 1 << 30 });
    expect(publications).toHaveLength(published);
  });
}

test("CELL-8: a cell that is added takes slots and is drained, while clients are served", async () => {
  const rules = { namespaces: { board: { access: "token", historySize: 10_000, presence: true } } };
  const fleet = await startFleet({ target: twoCells.targets, gateways: 2, rules });
  onTestFinished(() => fleet.stop());
  await cells(fleet.apiUrl, "take", "a", "--slots", "0-255", "--wait");
  const channels = Array.from({ length: 20 }, (_, at) => `board:${at}`);
  const clients = await Promise.all(fleet.urls.map(async (url) => connectClient(url, { channels: ["board:*"] })));
  for (const client of clients) for (const channel of channels) await client.request("sync:subscribe", { channel });
  let n = 0;
  const publishing = repeat(async () => {
    const body = { channel: channels[n % channels.length], event: "e", data: n, id: String(n) };
    // A slot that is closed for long answers 503: the id makes a repeat safe.
    await eventually(async () => (await fleet.api("POST", "/v1/publish", body)).status === 200);
    n++;
  });
  const taken = await cells(fleet.apiUrl, "take", "b", "--count", "64", "--wait");
  expect(taken.output).not.toContain("error");
  expect(taken).toMatchObject({
    code: 0,
    result: {
      cells: [
        { cell: "a", state: "ok", count: 192 },
        { cell: "b", count: 64 },
      ],
      moves: [],
    },
  });
  const drained = await cells(fleet.apiUrl, "drain", "b", "--wait");
  expect(drained).toMatchObject({
    code: 0,
    result: { cells: [{ slots: "0-255" }, { slots: "", count: 0 }], moves: [] },
  });
  await publishing.stop();
  for (const client of clients) {
    const data = (): unknown[] => client.received.filter(({ event }) => event === "e").map(({ data }) => data);
    await eventually(() => data().length >= n);
    expect(data().length).toBe(n);
    expect(client.received.filter(({ event }) => event === "sync:resync")).toEqual([]);
  }
  const left = await other.cells?.all.get("b")?.run<[string, string[]]>("scan", "0", "COUNT", 100_000);
  expect(left?.[1].filter((key) => /^tidegate:\{\d+\}:(?!queues2:numbers|arrival$)/.test(key))).toEqual([]);
}, 300_000);

test("CELL-9: orders that cannot be carried out are refused with what to change", async () => {
  const { url } = await startPrivateApi();
  const refused = async (path: string, body: object): Promise<unknown> => {
    const answer = await post(`${url}/v1/cells/${path}`, body);
    const { code, detail } = (await answer.json()) as { code: string; detail: string };
    return [answer.status, code, detail];
  };
  expect(await refused("c/take", { count: 1 })).toEqual([404, "not_found", "no such cell: REDIS_CELLS has a, b"]);
  expect(await refused("b/take", {})).toEqual([400, "invalid_request", "give slots or count"]);
  expect(await refused("b/take", { slots: "0-300" })).toEqual([
    400,
    "invalid_request",
    'slots: must be ranges of 0 to 255, as in "0-63,70"',
  ]);
  expect(await refused("b/pin", {})).toEqual([400, "invalid_request", "the request is not valid"]);
  expect(await refused("c/pin", { tenant: "acme" })).toEqual([404, "not_found", "no such cell: REDIS_CELLS has a, b"]);
  expect(await refused("b/unpin", { tenant: "acme" })).toEqual([409, "conflict", "the tenant is not pinned to b"]);
  const command = await cells(url, "take", "c", "--count", "1");
  expect(command).toMatchObject({ code: 1, output: "404: no such cell: REDIS_CELLS has a, b\n" });
});

test("CELL-12: {cell} in a service's URL is the cell of the queue, and of the user's slot or pin", async () => {
  const service = await startService();
  const rules = {
    namespaces: {},
    services: { documents: { url: `${service.url}/{cell}`, secret: serviceSecret } },
    routes: [
      { event: "ask", service: "documents", path: "/ask", mode: "call" },
      { event: "edit", service: "documents", path: "/edit", mode: "enqueue", key: "/doc" },
    ],
  };
  const fleet = await startFleet({ target: twoCells.targets, rules });
  try {
    const client = await connectClient(fleet.urls[0] ?? "", { tenant: "acme" });
    const paths = async (): Promise<string[]> => {
      const from = service.requests.length;
      expect(await client.request("ask", {})).toMatchObject({ ok: true });
      expect(await client.request("edit", { doc: "one" })).toMatchObject({ ok: true });
      await eventually(() => service.requests.length === from + 2);
      return service.requests.slice(from).map(({ path }) => path);
    };
    await cells(fleet.apiUrl, "take", "a", "--slots", "0-255", "--wait");
    expect(await paths()).toEqual(["/a/ask", "/a/edit"]);
    const slot = slotOfQueue({ service: "documents", tenant: "acme", key: "one" });
    await cells(fleet.apiUrl, "take", "b", "--slots", String(slot), "--wait");
    expect(await paths()).toEqual(["/a/ask", "/b/edit"]);
    await cells(fleet.apiUrl, "take", "a", "--slots", String(slot), "--wait");
    const pinned = await cells(fleet.apiUrl, "pin", "b", "--tenant", "acme");
    expect(pinned).toMatchObject({ code: 0, result: { pins: [{ tenant: "acme", cell: "b", state: "moving" }] } });
    await eventually(async () => (await paths()).join() === "/b/ask,/b/edit");
    await cells(fleet.apiUrl, "unpin", "b", "--tenant", "acme");
    await eventually(async () => (await paths()).join() === "/a/ask,/a/edit");
  } finally {
    await fleet.stop();
    await service.stop();
  }
});

test("CELL-11: a cell that is away makes programs degraded, and metrics show cells", async () => {
  const fleet = await startFleet({ target: twoCells.targets, rules: {} });
  const [gateway] = fleet.gateways;
  const readyz = async (base: string): Promise<unknown> => {
    const answer = await fetch(`${base}/readyz`);
    const { status, checks } = (await answer.json()) as { status: string; checks: Record<string, string> };
    return [answer.status, status, checks["broker"], checks["cells"]];
  };
  const doors = [fleet.apiUrl, `http://127.0.0.1:${gateway?.adminDoor.port}`];
  try {
    for (const door of doors) expect(await readyz(door)).toEqual([200, expect.any(String), "ok", "ok"]);
    twoCells.b.signal("SIGSTOP");
    for (const door of doors) {
      await eventually(async () => ((await readyz(door)) as string[])[3] === "degraded");
      expect(await readyz(door)).toEqual([200, "degraded", "ok", "degraded"]);
    }
    const metrics = await (await fetch(`${fleet.apiUrl}/metrics`)).text();
    for (const line of ['tidegate_cell_up{cell="a"} 1', 'tidegate_cell_up{cell="b"} 0'])
      expect(metrics).toContain(line);
    expect(metrics).toMatch(/tidegate_cell_slots\{cell="a"\} \d+/);
    expect(metrics).toContain("tidegate_cell_pause_seconds_count");
  } finally {
    twoCells.b.signal("SIGCONT");
    await fleet.stop();
  }
});
