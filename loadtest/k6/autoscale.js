/**
 * Clients that come and go: their number rises, stays, and falls. Each follows one channel. Whoever is closed comes back as
 * the contract asks: with its resume token and its position, after `retryAfterMs` or in its reconnect window.
 *
 *        ______________
 *      /                \
 *     / UP     HOLD      \ DOWN
 */
import crypto from "k6/crypto";
import encoding from "k6/encoding";
import exec from "k6/execution";
import { Counter } from "k6/metrics";
import { Sequence } from "../checks/sequence.ts";
import { SocketIoConnection } from "./socketio.js";

const number = (name) => Number(__ENV[name]);
const [clients, channels, engines] = ["CLIENTS", "CHANNELS", "ENGINES"].map(number);
const [upMs, holdMs, downMs] = ["UP", "HOLD", "DOWN"].map((name) => number(name) * 1_000);
const urls = __ENV.GATEWAY_URLS.split(",");
const wholeRunSeconds = (upMs + holdMs + downMs) / 1_000 + 120;
/** How long a client that is due to leave waits for a connection that it has just lost. */
const graceMs = 60_000;

const names = ["joined", "returned", "resumed", "refused", "received", "missed", "doubled", "reordered", "signalled"];
const counters = Object.fromEntries([...names, "unfinished"].map((name) => [name, new Counter(name)]));

export const options = {
  scenarios: {
    clients: {
      ...{ executor: "per-vu-iterations", iterations: 1, vus: engines, exec: "follow" },
      ...{ maxDuration: `${wholeRunSeconds}s`, gracefulStop: "1s" },
    },
  },
  systemTags: ["scenario"],
};

export function setup() {
  return { startAt: Date.now() + 500 };
}

/** The first to come is the last to go. */
export function follow({ startAt }) {
  for (let index = exec.scenario.iterationInTest; index < clients; index += engines) {
    const share = index / clients;
    const joinAt = startAt + share * upMs;
    const leaveAt = startAt + upMs + holdMs + (1 - share) * downMs;
    setTimeout(() => new Client(index, leaveAt).start(), Math.max(0, joinAt - Date.now()));
  }
}

class Client {
  #user;
  #url;
  #channel;
  #leaveAt;
  #connection;
  #resumeToken = null;
  #policy = { minDelayMs: 500, windowMs: 1_000 };
  /** What the gateway asked for when it closed. */
  #retryAfterMs;
  #position;
  #sequence;
  #following = false;
  #gone = false;

  constructor(index, leaveAt) {
    this.#user = `load-${index}`;
    this.#url = urls[index % urls.length];
    this.#channel = `load:${index % channels}`;
    this.#leaveAt = leaveAt;
  }

  start() {
    setTimeout(() => this.#leave(), Math.max(0, this.#leaveAt - Date.now()));
    this.#connect();
  }

  #connect() {
    if (this.#gone) return;
    const auth = this.#resumeToken ? { resume: this.#resumeToken } : { token: signToken(this.#user) };
    this.#connection = new SocketIoConnection(this.#url, auth, {
      onEvent: (name, data, meta) => this.#receive(name, data, meta),
      onRefused: ({ data }) => this.#refused(data),
      onClosed: () => this.#lost(),
      onOpenPacketMissed: () => undefined,
    });
  }

  #refused(data) {
    counters.refused.add(1);
    if (data && !data.retryable) this.#resumeToken = null;
    setTimeout(() => this.#connect(), data?.retryAfterMs ?? 1_000);
  }

  #lost() {
    this.#following = false;
    const { minDelayMs, windowMs } = this.#policy;
    const waitMs = this.#retryAfterMs ?? minDelayMs + Math.random() * windowMs;
    this.#retryAfterMs = undefined;
    setTimeout(() => this.#connect(), waitMs);
  }

  #receive(name, data, meta) {
    if (name === "sync:welcome") {
      this.#resumeToken = data.resumeToken;
      this.#policy = data.reconnect;
      counters[this.#sequence ? "returned" : "joined"].add(1);
      if (data.resumed) counters.resumed.add(1);
      this.#subscribe();
    } else if (name === "sync:policy") this.#policy = data.reconnect;
    else if (name === "sync:disconnect") this.#retryAfterMs = data.retryAfterMs;
    else if (name === "sync:resync") this.#signalled(data.position);
    else if (meta?.channel === this.#channel) this.#take(meta);
  }

  #subscribe() {
    const position = this.#position && { position: this.#position };
    this.#connection.request("sync:subscribe", { channel: this.#channel, ...position }, (ack) => {
      if (!ack.ok) return setTimeout(() => this.#subscribe(), ack.error.retryAfterMs ?? 1_000);
      if (!this.#sequence) this.#sequence = new Sequence(ack.position.offset);
      else if (!ack.recovered) this.#sequence.resync(ack.position.offset);
      else {
        for (const publication of ack.publications) this.#sequence.take(publication.offset, publication.prev);
        this.#sequence.standAt(ack.position.offset);
      }
      this.#position = ack.position;
      this.#following = true;
    });
  }

  #signalled(position) {
    this.#sequence?.resync(position.offset);
    this.#position = position;
  }

  #take({ offset, prev }) {
    if (!this.#sequence?.take(offset, prev)) return;
    this.#position = { epoch: this.#position.epoch, offset };
  }

  /** Somebody who is on the way from one node to the next comes back first: what it missed meanwhile is to be seen. */
  #leave() {
    if (!this.#following && Date.now() < this.#leaveAt + graceMs) return setTimeout(() => this.#leave(), 100);
    this.#gone = true;
    this.#connection?.close();
    counters.unfinished.add(this.#following ? 0 : 1);
    const { received = 0, lost = 0, doubled = 0, reordered = 0, signalled = 0 } = this.#sequence ?? {};
    counters.received.add(received);
    counters.missed.add(lost);
    counters.doubled.add(doubled);
    counters.reordered.add(reordered);
    counters.signalled.add(signalled);
  }
}

function signToken(user) {
  const encode = (value) => encoding.b64encode(JSON.stringify(value), "rawurl");
  const expiresAt = Math.floor(Date.now() / 1_000) + wholeRunSeconds + 600;
  const content = `${encode({ alg: "HS256", typ: "JWT" })}.${encode({ sub: user, exp: expiresAt, channels: ["load:*"] })}`;
  return `${content}.${crypto.hmac("sha256", __ENV.AUTH_JWT_SECRET, content, "base64rawurl")}`;
}

export function handleSummary({ metrics }) {
  const counts = Object.fromEntries(Object.keys(counters).map((name) => [name, metrics[name]?.values.count ?? 0]));
  return { [__ENV.RESULT_FILE]: JSON.stringify(counts) };
}
