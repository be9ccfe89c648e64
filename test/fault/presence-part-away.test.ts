/** Presence in a channel of one cell while another cell hangs. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { slotOf } from "../../shared/redis/slots.ts";
import { startTwoCells, type TwoCells } from "../support/cells.ts";
import { eventually } from "../support/eventually.ts";
import { type Fleet, startFleet } from "../support/fleet.ts";
import { closeClients, connectClient } from "../support/stock-client.ts";

let cells: TwoCells;
let fleet: Fleet;
beforeAll(async () => {
  cells = await startTwoCells("128-255");
  fleet = await startFleet({
    target: cells.targets,
    rules: { namespaces: { room: { access: "user", presence: true } } },
  });
});
afterAll(async () => {
  cells.b.signal("SIGCONT");
  closeClients();
  await fleet.stop();
  await cells.stop();
});

/** A name whose slot the cell owns. */
function nameAt(cell: "a" | "b", prefix: string): string {
  for (let at = 0; ; at++) {
    const name = `${prefix}${at}`;
    if (slotOf(name) >= 128 === (cell === "b")) return name;
  }
}

test("CELL-5: a client whose connection broke leaves its channel though another cell hangs", async () => {
  const url = fleet.urls[0] ?? "";
  const channel = nameAt("a", "room:");
  const [member, watcher] = [nameAt("a", "member-"), nameAt("a", "watcher-")];
  const clients = await Promise.all([member, watcher].map(async (sub) => connectClient(url, { sub })));
  for (const client of clients) await client.subscribe(channel);
  await connectClient(url, { sub: nameAt("b", "stays-") });
  const leaving = await connectClient(url, { sub: nameAt("b", "leaves-") });
  const present = async (): Promise<unknown> => {
    const { body } = await fleet.api("GET", `/v1/channels/${encodeURIComponent(channel)}/presence`);
    return (body["members"] as { user: string }[] | undefined)?.map(({ user }) => user).toSorted();
  };
  await eventually(async () => JSON.stringify(await present()) === JSON.stringify([member, watcher]));
  cells.b.signal("SIGSTOP");
  // A write that fails: the node announces its sessions again, under another name, until the cell is back.
  leaving.socket.disconnect();
  clients[0]?.socket.io.engine.close();
  await eventually(async () => JSON.stringify(await present()) === JSON.stringify([watcher]));
  await expect(clients[1]?.request("sync:presence", { channel })).resolves.toMatchObject({ ok: true });
});
