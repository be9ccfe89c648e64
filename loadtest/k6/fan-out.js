/**
 * Fan-out: clients spread over the gateway nodes follow a few channels while a publisher calls the private API.
 * Each client checks that every publication arrives exactly once and in offset order, up to the last one.
 *
 *   start        ramp end + 3 s                      last publication, end marker
 *     |--- ramp ---|~|------- measured window -------|--- drain (as long as needed) ---|
 *     |--------------- publishing -------------------|
 */
import crypto from "k6/crypto";
import encoding from "k6/encoding";
import exec from "k6/execution";
import http from "k6/http";
import { Counter, Gauge, Trend } from "k6/metrics";

import * as parameters from "./parameters.js";
import { Sequence } from "../checks/sequence.ts";
import { SocketIoConnection } from "./socketio.js";

const { clients, channels, rate, burst, rampSeconds, durationSeconds, drainSeconds } = parameters;

const tickEvent = "load.tick";
/** The last publication of each channel: who has it, and nothing missing before it, has everything. */
const endEvent = "load.end";
const publications = Math.ceil(rate * (rampSeconds + durationSeconds));
/** Longer than a client waits for an open packet that k6 has dropped. */
const settleMs = 3_000;
/** A client stays this long after the end marker, to see doubles. */
const lingerMs = 1_000;
const maxConnectAttempts = 5;
const maxPublishesInFlight = 50;

/** What a run must satisfy: metric, k6 threshold, in words. */
const verdicts = [
  ["clients_ready", `count==${clients}`, "every client was accepted and subscribed"],
  ["clients_late", "count==0", "no client joined after the measured window began"],
  ["clients_complete", `count==${clients}`, "every client got everything up to the last publication"],
  ["lost", "count==0", "no gap in what any client received"],
  ["doubled", "count==0", "nothing doubled"],
  ["reordered", "count==0", "nothing out of order"],
  ["interrupted", "count==0", "no client was closed, revoked or told to resync"],
  ["publish_failed", "count==0", "every publish was answered 200 with its position"],
  // k6's own fault, see socketio.js; more than that would be the gateway's.
  ["open_missed", `count<=${Math.ceil(clients / 1_000)}`, "the open packet was seen, but for the few that k6 drops"],
  ["published", `count>=${Math.floor(publications * 0.95)}`, "the publisher kept its rate"],
];

const counters = Object.fromEntries(verdicts.map(([name]) => [name, new Counter(name)]));
const refused = new Counter("refused");
const deliveries = new Counter("deliveries");
const measuredDeliveries = new Counter("measured_deliveries");
const measuredPublications = new Counter("measured_publications");
const latencyMs = new Trend("latency_ms");
const subscribeMs = new Trend("connect_and_subscribe_ms");
const measuredFrom = new Gauge("measured_from");
const measuredUntil = new Gauge("measured_until");

const wholeRunSeconds = rampSeconds + durationSeconds + drainSeconds + 20;
const once = { executor: "per-vu-iterations", iterations: 1, maxDuration: `${wholeRunSeconds}s`, gracefulStop: "1s" };

export const options = {
  scenarios: {
    clients: { ...once, exec: "follow", vus: parameters.engines },
    publisher: { ...once, exec: "publish", vus: 1 },
  },
  thresholds: Object.fromEntries(verdicts.map(([name, threshold]) => [name, [threshold]])),
  summaryTrendStats: ["min", "p(50)", "p(95)", "p(99)", "max"],
  // Every tag is paid for with each of the samples.
  systemTags: ["scenario"],
};

export function setup() {
  const startAt = Date.now() + 500;
  const windowUntil = startAt + (rampSeconds + durationSeconds) * 1_000;
  return {
    runId: startAt.toString(36),
    startAt,
    windowFrom: Math.min(windowUntil, startAt + rampSeconds * 1_000 + settleMs),
    windowUntil,
    giveUpAt: windowUntil + drainSeconds * 1_000,
  };
}

// --- clients

export function follow(run) {
  for (let index = exec.scenario.iterationInTest; index < clients; index += parameters.engines) {
    const dueAt = run.startAt + (index / clients) * rampSeconds * 1_000;
    setTimeout(() => new Client(index, run).start(), Math.max(0, dueAt - Date.now()));
  }
}

class Client {
  #run;
  #user;
  #url;
  #channel;
  #connection;
  #attempts = 0;
  #startedAt = Date.now();
  #check;
  #ended = false;
  #complete = false;
  #measured = 0;
  #early = 0;
  #timer;

  constructor(index, run) {
    this.#run = run;
    this.#user = `load-${index}`;
    this.#url = parameters.urls[index % parameters.urls.length];
    // Every channel gets followers on every node.
    this.#channel = channelName(run, Math.floor(index / parameters.urls.length));
  }

  start() {
    this.#timer = setTimeout(() => this.#finish(), Math.max(0, this.#run.giveUpAt - Date.now()));
    this.#connect();
  }

  #connect() {
    this.#attempts++;
    const auth = { token: signToken(this.#user), protocol: 1 };
    this.#connection = new SocketIoConnection(this.#url, auth, {
      onEvent: (name, data, meta) => this.#receive(name, data, meta),
      onRefused: (error) => this.#refuse(error),
      onClosed: (why) => this.#interrupt(why),
      onOpenPacketMissed: () => counters.open_missed.add(1),
    });
  }

  #refuse({ message, data }) {
    refused.add(1);
    if (!data?.retryable || this.#attempts >= maxConnectAttempts) return this.#interrupt(`refused: ${message}`);
    setTimeout(() => !this.#complete && this.#connect(), data.retryAfterMs ?? 1_000);
  }

  #receive(name, data, meta) {
    if (name === "sync:welcome") return this.#subscribe();
    if (name === "sync:resync" || name === "sync:revoked" || name === "sync:disconnect") {
      return this.#interrupt(`${name} ${JSON.stringify(data)}`);
    }
    if (meta?.channel !== this.#channel) return;
    if (!this.#check) {
      this.#early++; // Nothing of a channel may precede the ack.
      return;
    }
    this.#check.take(meta.offset, meta.prev);
    if (name === endEvent) {
      this.#ended = true;
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#finish(), lingerMs);
    } else if (inWindow(this.#run, data.sentAt)) {
      this.#measured++;
      latencyMs.add(Date.now() - data.sentAt);
    }
  }

  #subscribe() {
    this.#connection.request("sync:subscribe", { channel: this.#channel }, (ack) => {
      if (!ack.ok) return this.#interrupt(`subscribe: ${JSON.stringify(ack.error)}`);
      this.#check = new Sequence(ack.position.offset);
      counters.clients_ready.add(1);
      counters.clients_late.add(Date.now() > this.#run.windowFrom ? 1 : 0);
      subscribeMs.add(Date.now() - this.#startedAt);
    });
  }

  /** Not what a client in a quiet deployment should see. It stays down: the run has failed. */
  #interrupt(why) {
    if (this.#complete) return;
    counters.interrupted.add(1);
    const stage = this.#check ? "subscribed" : this.#connection.stage;
    console.warn(`${this.#user} on ${this.#url}, ${stage}, after ${Date.now() - this.#startedAt} ms: ${why}`);
    this.#finish();
  }

  #finish() {
    if (this.#complete) return;
    this.#complete = true;
    clearTimeout(this.#timer);
    this.#connection.close();
    const { received = 0, lost = 0, doubled = 0, reordered = 0 } = this.#check ?? {};
    counters.clients_complete.add(this.#ended && lost === 0 ? 1 : 0);
    counters.lost.add(lost);
    counters.doubled.add(doubled);
    counters.reordered.add(reordered + this.#early);
    deliveries.add(received);
    measuredDeliveries.add(this.#measured);
  }
}

/** A JWT, HS256, that allows the channels of the load test. */
function signToken(user) {
  const encode = (value) => encoding.b64encode(JSON.stringify(value), "rawurl");
  const expiresAt = Math.floor(Date.now() / 1_000) + wholeRunSeconds + 600;
  const content = `${encode({ alg: "HS256", typ: "JWT" })}.${encode({ sub: user, exp: expiresAt, channels: ["load:*"] })}`;
  return `${content}.${crypto.hmac("sha256", parameters.jwtSecret, content, "base64rawurl")}`;
}

// --- publisher

export async function publish(run) {
  measuredFrom.add(run.windowFrom);
  measuredUntil.add(run.windowUntil);
  const inFlight = new Set();
  for (let sent = 0; sent < publications && Date.now() < run.windowUntil; sent++) {
    const dueAt = run.startAt + (Math.floor(sent / burst) * burst * 1_000) / rate;
    while (Date.now() < dueAt) await pause(dueAt - Date.now());
    while (inFlight.size >= maxPublishesInFlight) await Promise.race(inFlight);
    const call = publishOne(run, channelName(run, sent), tickEvent).then(() => inFlight.delete(call));
    inFlight.add(call);
  }
  await Promise.all(inFlight);
  for (let index = 0; index < channels; index++) {
    await publishOne(run, channelName(run, index), endEvent);
  }
}

async function publishOne(run, channel, event) {
  const sentAt = Date.now();
  const data = { sentAt, filler: "x".repeat(parameters.payloadBytes) };
  const answer = await http.asyncRequest(
    "POST",
    `${parameters.privateApi}/v1/publish`,
    JSON.stringify({ channel, event, data }),
    {
      headers: { authorization: `Bearer ${parameters.privateApiToken}`, "content-type": "application/json" },
      timeout: "5s",
    },
  );
  const done = answer.status === 200 && Number.isInteger(answer.json("offset"));
  if (!done) console.warn(`publish to ${channel}: ${answer.status} ${answer.error || answer.body}`);
  counters.publish_failed.add(done ? 0 : 1);
  if (!done || event === endEvent) return;
  counters.published.add(1);
  measuredPublications.add(inWindow(run, sentAt) ? 1 : 0);
}

function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** By the moment of sending, so that both ends count the same publications. */
function inWindow(run, sentAt) {
  return sentAt >= run.windowFrom && sentAt < run.windowUntil;
}

/** A fresh name for each run: no history of an earlier one. */
function channelName(run, index) {
  return `load:${run.runId}-${index % channels}`;
}

// --- result

export function handleSummary({ metrics }) {
  const count = (name) => metrics[name]?.values.count ?? 0;
  const percentiles = (name) => {
    const values = metrics[name]?.values;
    return values && { p50: values["p(50)"], p95: values["p(95)"], p99: values["p(99)"], max: values.max };
  };
  const result = {
    parameters: {
      clients,
      channels,
      nodes: parameters.urls.length,
      ratePerSecond: rate,
      burst,
      rampSeconds,
      payloadBytes: parameters.payloadBytes,
    },
    window: { from: metrics.measured_from?.values.value ?? 0, until: metrics.measured_until?.values.value ?? 0 },
    deliveries: { total: count("deliveries"), measured: count("measured_deliveries") },
    publications: { total: count("published"), measured: count("measured_publications") },
    refused: count("refused"),
    latencyMs: percentiles("latency_ms"),
    connectAndSubscribeMs: percentiles("connect_and_subscribe_ms"),
    publishMs: percentiles("http_req_duration"),
    verdicts: verdicts.map(([name, threshold, title]) => ({
      title,
      pass: metrics[name]?.thresholds?.[threshold]?.ok ?? false,
      metric: name,
      value: count(name),
    })),
  };
  const text = JSON.stringify(result, undefined, 2);
  return parameters.resultFile ? { [parameters.resultFile]: text } : { stdout: `${text}\n` };
}
