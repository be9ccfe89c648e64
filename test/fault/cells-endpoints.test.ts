/** Webhooks out and pulls of the change log, while all slots move between two cells. */
import { expect, test } from "vitest";
import { startTwoCells } from "../support/cells.ts";
import { eventually } from "../support/eventually.ts";
import { type ApiAnswer, startFleet } from "../support/fleet.ts";
import { startService } from "../support/http-service.ts";

test("CELL-21: while slots move an endpoint and a pull get each change, in order of the channel", async () => {
  const cells = await startTwoCells("128-255");
  const receiver = await startService();
  const fleet = await startFleet({
    target: cells.targets,
    rules: { namespaces: { board: { changes: true } } },
    environment: { ENDPOINT_ALLOWED_NETWORKS: "127.0.0.0/8" },
  });
  const channels = Array.from({ length: 6 }, (_, at) => `board:${at}`);
  let stopMoving: (() => Promise<void>) | undefined;
  try {
    const created = await fleet.api("POST", "/v1/endpoints", { url: receiver.url, channels: ["board:*"] });
    expect(created.status).toBe(201);
    stopMoving = await cells.keepMoving();
    const version = async (): Promise<number> => Number((await fleet.api("GET", "/v1/cells")).body["version"]);
    const begunAt = await version();
    let published = 0;
    const pulled = new Map<string, number[]>();
    let cursor = "";
    const pull = async (): Promise<void> => {
      const query = cursor === "" ? "" : `&cursor=${encodeURIComponent(cursor)}`;
      let body: ApiAnswer["body"] = {};
      // As a publish, see below.
      await eventually(async () => {
        const answer = await fleet.api("GET", `/v1/changes?channels=board:*${query}`);
        body = answer.body;
        return answer.status === 200;
      });
      for (const change of body["changes"] as { channel: string; data: number }[]) {
        pulled.set(change.channel, [...(pulled.get(change.channel) ?? []), change.data]);
      }
      cursor = body["cursor"] as string;
    };
    // The map takes five versions for each move of 16 slots.
    while ((await version()) < begunAt + 15 || published < 20) {
      for (const channel of channels) {
        const item = { channel, event: "e", data: published, id: `${channel} ${published}` };
        // A slot that is closed for long answers 503: the id makes a repeat safe.
        await eventually(async () => (await fleet.api("POST", "/v1/publish", item)).status === 200);
      }
      published++;
      await pull();
    }
    await stopMoving();
    const all = Array.from({ length: published }, (_, n) => n);
    await eventually(async () => {
      await pull();
      return [...pulled.values()].reduce((sum, { length }) => sum + length, 0) >= published * channels.length;
    });
    await eventually(() => new Set(receiver.requests.map(idOf)).size >= published * channels.length);
    for (const channel of channels) {
      expect(pulled.get(channel)).toEqual(all);
      // A delivery may be repeated where the reader of a slot changed; it never comes after a newer one for the first time.
      const own = receiver.requests.map(({ body }) => JSON.parse(body) as { channel: string; data: number });
      const first = new Set(own.filter((delivery) => delivery.channel === channel).map(({ data }) => data));
      expect([...first]).toEqual(all);
    }
  } finally {
    await stopMoving?.();
    await fleet.stop();
    await receiver.stop();
    await cells.stop();
  }
}, 300_000);

function idOf({ headers }: { headers: Record<string, unknown> }): unknown {
  return headers["webhook-id"];
}
