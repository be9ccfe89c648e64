/** From an event to the items of its queues. */
import { expect, test } from "vitest";
import { storeEvent } from "../../gateway/requests/store-event.ts";
import { parseHead } from "../../shared/queues/item-head.ts";
import { slotOfQueue } from "../../shared/queues/keys.ts";
import { MemoryQueueStore } from "../../shared/queues/memory.ts";

test("QUE-14: an item is dated by the clock of the store, whatever that of the gateway", async () => {
  const queues = new MemoryQueueStore();
  const storeNow = Date.UTC(2001, 1, 3);
  const about = { identity: { user: "ada", sessionId: "s", claims: {} }, event: "doc.edit", key: "k", data: "1" };
  const route = { event: "doc.edit", service: "documents", path: "/edits", mode: "enqueue" as const };
  await storeEvent(
    { ...about, route, class: "messages", id: "id", dedupes: "nowhere", source: "/tidegate/socket" },
    { queues, sessionStore: { now: () => storeNow } },
  );
  const slot = slotOfQueue({ service: "documents", tenant: "", key: "k" });
  const lane = { slot, class: "messages", service: "documents", tenant: "", attempt: "first" as const };
  const [reply] = queues.claim([{ ...lane, maxQueues: 1, maxItems: 1 }]);
  const [claimed] = (await reply)?.claimed ?? [];
  expect(parseHead(claimed?.items[0].head ?? "")?.at).toBe(storeNow);
});
