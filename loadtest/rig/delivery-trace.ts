/**
 * Preloaded into a private API: times the stages of deliveries under `/live/`. SIGUSR2 begins it, the next one writes the times to DELIVERY_STAGES_FILE and
 * ends it. Before and after it, nothing is wrapped: the cost of a delivery is measured in the same process.
 */
import { renameSync, writeFileSync } from "node:fs";
import { ChangeQueue } from "../../private-api/endpoints/change-queue.ts";
import { RedisChangeLog } from "../../shared/changes/redis.ts";
import { RedisQueueStore } from "../../shared/queues/redis.ts";
import { EndpointClient } from "../../shared/services/endpoint-client.ts";
import { Histogram } from "../checks/histogram.ts";
import { type HookBody, nowMs } from "../providers/load-messages.ts";
import { type Stage, stages, type StageTimes } from "./delivery-stages.ts";

interface Trace {
  readonly times: Record<Stage, Histogram>;
  /** Of the reader of the change log. */
  readAt: number;
  /** When a change was queued for all its endpoints, by `webhook-id`. */
  readonly queuedAt: Map<string, number>;
}

/** Undefined: nothing is timed. */
let trace: Trace | undefined;

function begin(): Trace {
  const histograms = stages.map((stage) => [stage, new Histogram()]);
  return { times: Object.fromEntries(histograms) as Trace["times"], readAt: nowMs(), queuedAt: new Map() };
}

function write({ times }: Trace): void {
  const file = process.env["DELIVERY_STAGES_FILE"] ?? "";
  const json = Object.fromEntries(stages.map((stage) => [stage, times[stage].toJSON()])) as StageTimes;
  writeFileSync(`${file}.new`, JSON.stringify(json));
  renameSync(`${file}.new`, file);
}

const { read } = RedisChangeLog.prototype;
const tracedRead: typeof read = async function traced(this: RedisChangeLog, ...query) {
  const reads = await read.apply(this, query);
  if (trace && reads.some(({ changes }) => changes.length > 0)) trace.readAt = nowMs();
  return reads;
};

const { add } = ChangeQueue.prototype;
const tracedAdd: typeof add = async function traced(this: ChangeQueue, wanted, isHeld) {
  const current = trace;
  if (!current) return add.call(this, wanted, isHeld);
  const { times, queuedAt, readAt } = current;
  for (const { message } of wanted) {
    const { timestamp, data } = JSON.parse(message.body) as { timestamp: string; data: HookBody };
    const publishedAt = Date.parse(timestamp);
    times["due → published"].add(publishedAt - data.at);
    times["published → read"].add(readAt - publishedAt);
  }
  await add.call(this, wanted, isHeld);
  const now = nowMs();
  for (const { message } of wanted) {
    times["read → queued"].add(now - readAt);
    queuedAt.set(message.id, now);
  }
};

const { send } = EndpointClient.prototype;
const tracedSend: typeof send = async function traced(this: EndpointClient, request) {
  const current = trace;
  if (!current || !request.target.path.startsWith("/live/")) return send.call(this, request);
  const sentAt = nowMs();
  // Some are claimed before the others of a change are queued.
  const queuedAt = current.queuedAt.get(request.headers[request.headers.indexOf("webhook-id") + 1] ?? "") ?? sentAt;
  current.times["queued → sent"].add(sentAt - queuedAt);
  const result = await send.call(this, request);
  current.times["sent → answered"].add(nowMs() - sentAt);
  return result;
};

const { settle } = RedisQueueStore.prototype;
const tracedSettle: typeof settle = async function traced(this: RedisQueueStore, lease, settlement) {
  const current = trace;
  const from = nowMs();
  const isHeld = await settle.call(this, lease, settlement);
  if (current && settlement.kind === "done") current.times["answered → settled"].add(nowMs() - from);
  return isHeld;
};

process.on("SIGUSR2", () => {
  if (trace) write(trace);
  trace = trace ? undefined : begin();
  RedisChangeLog.prototype.read = trace ? tracedRead : read;
  ChangeQueue.prototype.add = trace ? tracedAdd : add;
  EndpointClient.prototype.send = trace ? tracedSend : send;
  RedisQueueStore.prototype.settle = trace ? tracedSettle : settle;
});
