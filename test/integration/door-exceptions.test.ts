/** Exceptions in a door's own code end one request, or one connection, and never the process. */
import { afterEach, expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { halfHead, OpenDoors } from "../support/open-doors.ts";
import { requestHead } from "../support/raw-http.ts";
import { createTestDoor, type TestDoor } from "../support/test-door.ts";

const doors = new OpenDoors();
afterEach(async () => doors.close());

interface Place {
  name: string;
  add: (created: TestDoor) => void;
  request?: string;
  status?: string;
}
const fail = (): never => {
  throw new Error("a bug");
};
const places: Place[] = [
  { name: "a handler", add: ({ door }) => void door.app.get("/bug", fail), status: "502" },
  {
    name: "an asynchronous handler",
    add: ({ door }) => void door.app.get("/bug", async () => fail()),
    status: "502",
  },
  {
    name: "a hook",
    add: ({ door }) => void door.app.get("/bug", { preHandler: fail }, () => "never"),
    status: "502",
  },
  {
    name: "a hook before the answer is sent",
    add: ({ door }) => void door.app.get("/bug", { onSend: fail }, () => "never"),
    status: "502",
  },
  {
    name: "a serializer",
    add: ({ door }) => void door.app.get("/bug", (_request, reply) => reply.serializer(fail).send({ a: 1 })),
    status: "502",
  },
  {
    name: "a value that is no JSON",
    add: ({ door }) => void door.app.get("/bug", () => ({ number: 1n })),
    status: "502",
  },
  {
    name: "a body parser",
    add: ({ door }) => {
      door.app.addContentTypeParser("text/bug", { parseAs: "string" }, fail);
      door.app.post("/bug", () => "never");
    },
    request: `${requestHead("POST", "/bug", ["Content-Type: text/bug", "Content-Length: 1"])}x`,
    status: "502",
  },
  {
    name: "a listener of the server, on a request",
    add: ({ door }) =>
      void door.app.server.prependListener("request", ({ url }: { url?: string }) => url === "/bug" && fail()),
  },
  {
    name: "a listener of the server, on an upgrade",
    add: ({ door }) => void door.app.server.on("upgrade", fail),
    request: requestHead("GET", "/bug", ["Connection: Upgrade", "Upgrade: websocket"]),
  },
];

test.for(places)("CONT-1: an exception in $name affects that peer only", async ({ add, request, status }) => {
  const created = createTestDoor();
  add(created);
  const { door, errors } = await doors.start(created);
  const text = request ?? requestHead("GET", "/bug", ["Connection: close"]);
  const other = doors.open(door, halfHead);
  const peer = doors.open(door, text);
  if (status === undefined) await peer.closed;
  else await eventually(() => peer.received().startsWith(`HTTP/1.1 ${status}`));
  expect(errors.counts).toEqual({ frame: 0, http: 1, relay: 0, store: 0, timer: 0 });
  other.socket.write("st\r\nConnection: close\r\n\r\n");
  expect(await other.closed).toContain("here");
});

test("CONT-1: a hijacked response that fails, or an unheard socket, does not end the process", async () => {
  const created = createTestDoor();
  const { door } = created;
  let written = false;
  door.app.get("/bug", (_request, reply) => {
    reply.hijack();
    reply.raw.end("over");
    reply.raw.write("more", () => (written = true));
  });
  door.app.server.on("upgrade", () => undefined);
  await doors.start(created);
  doors.open(door, requestHead("GET", "/bug"));
  const upgraded = doors.open(door, requestHead("GET", "/", ["Connection: Upgrade", "Upgrade: websocket"]));
  await eventually(() => written && door.connections.unproven === 1);
  upgraded.socket.resetAndDestroy();
  await eventually(() => door.connections.total === 1);
  expect(await doors.answers(door)).toBe(true);
});

test("CONT-1: a request that is not HTTP gets a 400, and is counted", async () => {
  const { door, closures } = await doors.start(createTestDoor());
  expect(await doors.open(door, "hello\r\n\r\n").closed).toMatch(/^HTTP\/1.1 400/);
  expect(await doors.open(door, requestHead("GET", "/", [`X: ${"x".repeat(20_000)}`])).closed).toMatch(
    /^HTTP\/1.1 431/,
  );
  expect((await closures())["malformed"]).toBe(2);
});
