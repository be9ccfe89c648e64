/** Attacks on any HTTP server: connections that send nothing, little, or too much. The same on all three ports. */
import { setTimeout as pause } from "node:timers/promises";
import type { Attack, Load, Target } from "./attack.ts";
import { countAnswers, dial, httpRequest, keepBusy, pipeline, untilGone, write } from "./peers.ts";

type Door = "gateway" | "admin" | "api";

const doors: readonly { door: Door; title: string; suffix: string; path: string }[] = [
  { door: "gateway", title: "the public port", suffix: "", path: "/v1/bootstrap" },
  { door: "admin", title: "the admin port", suffix: "-admin", path: "/livez" },
  { door: "api", title: "the private API's port", suffix: "-api", path: "/v1/publish" },
];

/** Connections for each one of --connections. */
const crowd = 250;
const trickleEveryMs = 500;
const oneByte = Buffer.from("a");

async function stayIdle(url: URL, load: Load): Promise<void> {
  await keepBusy(load, async () => {
    const socket = await dial(url, load);
    load.sent(1, 0);
    await untilGone(socket, load);
  });
}

/** Begins a request, then sends a byte now and then so that the connection is never idle. */
async function trickle(url: URL, beginning: Buffer, load: Load): Promise<void> {
  await keepBusy(load, async () => {
    const socket = await dial(url, load);
    socket.resume();
    await write(socket, beginning);
    load.sent(1, beginning.length);
    while (!load.over && !socket.destroyed) {
      await pause(trickleEveryMs);
      await write(socket, oneByte);
      load.sent(0, 1);
    }
  });
}

/** Announces a body that it does not send, and waits. */
async function halfSend(url: URL, path: string, load: Load): Promise<void> {
  const announced = { "content-type": "application/json", "content-length": 60_000 };
  const beginning = httpRequest(`POST ${path}`, url, announced);
  await keepBusy(load, async () => {
    const socket = await dial(url, load);
    socket.resume();
    await write(socket, beginning);
    load.sent(1, beginning.length);
    await untilGone(socket, load);
  });
}

async function dialAndLeave(url: URL, load: Load): Promise<void> {
  await keepBusy(load, async () => {
    const socket = await dial(url, load);
    load.sent(1, 0);
    socket.destroy();
  });
}

/** Chunks of one byte: each costs the parser as much as a large one. */
async function chunk(url: URL, path: string, load: Load): Promise<void> {
  const beginning = httpRequest(`POST ${path}`, url, {
    "content-type": "application/json",
    "transfer-encoding": "chunked",
  });
  const chunks = Buffer.from("1\r\na\r\n".repeat(10_000));
  await keepBusy(load, async () => {
    const socket = await dial(url, load);
    countAnswers(socket, load);
    await write(socket, beginning);
    while (!load.over && !socket.destroyed) {
      await write(socket, chunks);
      load.sent(10_000, chunks.length);
    }
  });
}

const onEachDoor = doors.flatMap(({ door, title, suffix, path }): Attack[] => [
  {
    name: `idle-connections${suffix}`,
    does: `connections to ${title} that send nothing, ${crowd} for each connection`,
    needs: "nothing",
    connectionsEach: crowd,
    run: async (target, load) => stayIdle(target[door], load),
  },
  {
    name: `slow-heads${suffix}`,
    does: `requests to ${title} whose head arrives byte by byte and never ends, ${crowd} for each connection`,
    needs: "nothing",
    connectionsEach: crowd,
    run: async (target, load) => trickle(target[door], Buffer.from(`GET ${path} HTTP/1.1\r\nx-slow: `), load),
  },
  {
    name: `half-sent-bodies${suffix}`,
    does: `requests to ${title} whose body never arrives, ${crowd} for each connection`,
    needs: "nothing",
    connectionsEach: crowd,
    run: async (target, load) => halfSend(target[door], path, load),
  },
  {
    name: `tiny-chunks${suffix}`,
    does: `bodies to ${title} in chunks of one byte`,
    needs: "nothing",
    run: async (target, load) => chunk(target[door], path, load),
  },
  {
    name: `connects${suffix}`,
    does: `connections to ${title} that close at once`,
    needs: "nothing",
    run: async (target, load) => dialAndLeave(target[door], load),
  },
]);

/** Requests that need no token, sent without waiting for answers. */
const pipelines: readonly { name: string; door: Door; request: string }[] = [
  { name: "pipelined-bootstraps", door: "gateway", request: "GET /v1/bootstrap" },
  { name: "pipelined-preflights", door: "gateway", request: "OPTIONS /v1/bootstrap" },
  { name: "pipelined-bad-urls", door: "gateway", request: "GET /%ZZ%" },
  { name: "pipelined-api-bad-urls", door: "api", request: "GET /v1/channels/%ZZ%/history" },
  { name: "pipelined-unknown-paths", door: "gateway", request: `GET /${"x".repeat(200)}` },
  { name: "pipelined-engine", door: "gateway", request: "GET /socket.io/?EIO=4&transport=polling" },
  { name: "pipelined-metrics", door: "admin", request: "GET /metrics" },
  { name: "pipelined-openapi", door: "api", request: "GET /openapi.json" },
  { name: "pipelined-api-metrics", door: "api", request: "GET /metrics" },
  { name: "pipelined-publishes", door: "api", request: "POST /v1/publish" },
];

/** Few descriptors, so that a few hundred connections exhaust them. */
const descriptors = 512;
const beyondDescriptors = 200;

async function exhaust(target: Target, door: Door, path: string, load: Load): Promise<void> {
  const idle: Load = load.part(Math.floor(load.connections / 2));
  const sending: Load = load.part(Math.ceil(load.connections / 2));
  await Promise.all([stayIdle(target[door], idle), halfSend(target[door], path, sending)]);
}

export const doorAttacks: readonly Attack[] = [
  ...onEachDoor,
  ...pipelines.map(({ name, door, request }): Attack => ({
    name,
    does: `${request.slice(0, 40)}, repeated without waiting for answers`,
    needs: "nothing",
    run: async (target, load) => pipeline(target[door], httpRequest(request, target[door]), load),
  })),
  {
    name: "forged-bootstraps",
    does: "bootstraps with forged tokens of 8 KiB, without waiting for answers",
    needs: "nothing",
    run: async ({ gateway }, load) => {
      const token = `eyJhbGciOiJIUzI1NiJ9.${"A".repeat(8_000)}.${"A".repeat(43)}`;
      await pipeline(gateway, httpRequest("GET /v1/bootstrap", gateway, { authorization: `Bearer ${token}` }), load);
    },
  },
  {
    name: "large-heads",
    does: "requests with 100 KiB of header",
    needs: "nothing",
    run: async ({ gateway }, load) =>
      pipeline(gateway, httpRequest("GET /v1/bootstrap", gateway, { "x-large": "a".repeat(100_000) }), load),
  },
  ...doors.map(({ door, title, suffix, path }): Attack => ({
    name: `descriptors${suffix}`,
    does: `idle connections and half-sent bodies to ${title} of programs that may open ${descriptors} files`,
    needs: "nothing",
    descriptors,
    connectionsEach: Math.ceil((descriptors + beyondDescriptors) / 4),
    run: async (target, load) => exhaust(target, door, path, load),
  })),
];
