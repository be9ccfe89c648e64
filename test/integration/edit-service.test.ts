/** The example for service authors, behind an enqueue route. */
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { afterEach, expect, test } from "vitest";
import { createEditService, Documents } from "../../examples/edits/service.ts";
import { eventually } from "../support/eventually.ts";
import { type Fleet, serviceSecret, startFleet } from "../support/fleet.ts";
import { closeClients, connectClient } from "../support/stock-client.ts";

const stops: (() => Promise<unknown> | void)[] = [];
afterEach(async () => {
  closeClients();
  for (const stop of stops.splice(0).toReversed()) await stop();
});

test("LANG-2: the example of an enqueue service takes each event once, in order", async () => {
  const documents = new Documents();
  const server = createEditService(documents, serviceSecret).listen(0, "127.0.0.1");
  await once(server, "listening");
  stops.push(() => {
    server.closeAllConnections();
    server.close();
  });
  const fleet: Fleet = await startFleet({
    rules: {
      services: {
        documents: { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, secret: serviceSecret },
      },
      routes: [{ event: "edit", service: "documents", path: "/edits", mode: "enqueue", key: "/doc" }],
    },
  });
  stops.push(async () => fleet.stop());
  const client = await connectClient(fleet.urls[0] ?? "");
  const edits = [1, 2, 3].map((n) => ({ doc: "ä", n }));
  for (const edit of edits) expect((await client.request("edit", edit)).ok).toBe(true);
  await eventually(() => documents.editsOf("ä").length === 3);
  expect(documents.editsOf("ä")).toEqual(edits);
});

test("LANG-2: the example recognises a repeat, and refuses a worker with an older fence", () => {
  const documents = new Documents();
  const apply = (id: string, fence: number): number =>
    documents.apply({ key: "k", id, fence: String(fence).padStart(20, "0"), edit: id });
  expect(apply("a", 9)).toBe(204);
  expect(apply("a", 10)).toBe(204);
  expect(apply("b", 9)).toBe(409);
  expect(apply("b", 11)).toBe(204);
  expect(documents.editsOf("k")).toEqual(["a", "b"]);
});
