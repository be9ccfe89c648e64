/** Sends signed POSTs with the body and the headers of a delivery, and does nothing else: see bare-posts.ts. */
import { Agent } from "undici";
import { type HookBody, nowMs } from "../providers/load-messages.ts";
import type { BarePostOrder } from "./bare-posts.ts";
import { signedPost } from "./signed-post.ts";

const agent = new Agent();

/** @returns CPU of this process for each, in µs. */
async function measure({ urls: texts, atOnce, posts }: BarePostOrder): Promise<number> {
  const urls = texts.map((url) => new URL(`${url}/bare/0`));
  const data: HookBody = { group: "burstaa", key: "load:50:burstaa-10", tenant: "", n: 1, at: nowMs() };
  const timestamp = new Date().toISOString();
  // Written once for all endpoints of a change, as by a private API.
  const text = JSON.stringify({ type: "moved", timestamp, channel: data.key, epoch: "0123abcd", offset: 1, data });
  const before = process.cpuUsage();
  let left = posts;
  const senders = Array.from({ length: atOnce }, async () => {
    while (left-- > 0) {
      const url = urls[left % urls.length];
      if (url) await signedPost(agent, url, `${left}`.padStart(32, "w"), text);
    }
  });
  await Promise.all(senders);
  const { user, system } = process.cpuUsage(before);
  return (user + system) / posts;
}

process.on("message", (order: BarePostOrder) => {
  // It ends this process where it fails.
  void measure(order).then((micros) => process.send?.(micros));
});
process.once("disconnect", () => process.exit());
