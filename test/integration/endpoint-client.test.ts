/** Requests to endpoints: which addresses they reach, and what a hostile endpoint can do to them. */
import { once } from "node:events";
import { type AddressInfo, createServer, type LookupFunction, type Server, type Socket } from "node:net";
import { gzipSync } from "node:zlib";
import { afterEach, describe, expect, test } from "vitest";
import { EndpointClient } from "../../shared/services/endpoint-client.ts";
import { type ExchangeResult, targetOf } from "../../shared/services/exchange.ts";
import { InternetAddresses } from "../../shared/services/internet-addresses.ts";
import { eventually } from "../support/eventually.ts";
import { type HttpService, startService } from "../support/http-service.ts";

const begun: { stop(): Promise<void> }[] = [];
afterEach(async () => {
  for (const each of begun.splice(0).toReversed()) await each.stop();
});

function client(options: { allowed?: string[]; resolve?: LookupFunction } = {}): EndpointClient {
  const { allowed = ["127.0.0.0/8"], resolve } = options;
  const created = new EndpointClient({ addresses: new InternetAddresses(allowed), ...(resolve && { resolve }) });
  begun.push(created);
  return created;
}

async function service(): Promise<HttpService> {
  const started = await startService();
  begun.push(started);
  return started;
}

/** Sends a text again and again, as fast as it is read. */
function flood(socket: Socket, text: string): void {
  const write = (): void => {
    while (!socket.destroyed && socket.write(text));
  };
  socket.on("drain", write);
  write();
}

async function rawServer(onConnection: (socket: Socket) => void): Promise<string> {
  const server: Server = createServer((socket) => {
    socket.on("error", () => undefined);
    socket.once("data", () => onConnection(socket));
  });
  const sockets = new Set<Socket>();
  server.on("connection", (socket) => sockets.add(socket));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  begun.push({
    stop: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** Names have these addresses, one list after the other; the last one stays. */
function resolver(...lists: string[][]): { resolve: LookupFunction; asked: () => number } {
  let asked = 0;
  const resolve: LookupFunction = (_hostname, options, callback) => {
    const list = lists[Math.min(asked++, lists.length - 1)] ?? [];
    const found = list.map((address) => ({ address, family: address.includes(":") ? 6 : 4 }));
    const [first] = found;
    if (options.all) callback(null, found);
    else callback(null, first?.address ?? "", first?.family ?? 4);
  };
  return { resolve, asked: () => asked };
}

const request = (url: string, timeoutMs = 60_000): Parameters<EndpointClient["send"]>[0] => ({
  target: targetOf(url),
  headers: [],
  body: Buffer.from("{}"),
  timeoutMs,
});

describe("addresses", () => {
  test("SSRF-4: an address in the URL is refused before a connection", async () => {
    const { url, requests } = await service();
    const answer = await client({ allowed: [] }).send(request(url));
    expect(answer).toMatchObject({ kind: "unreachable", reason: expect.stringContaining("127.0.0.1 is loopback") });
    expect(requests).toEqual([]);
  });

  test.each([
    ...[
      "127.1",
      "0177.0.0.1",
      "0x7f.0.0.1",
      "2130706433",
      "0",
      "[::1]",
      "[::]",
      "[::ffff:127.0.0.1]",
      "[::ffff:7f00:1]",
    ],
    ...["[::127.0.0.1]", "[::ffff:0:127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "127.0.0.1.", "１２７.0.0.1"],
  ])("SSRF-2: http://%s reaches no port of this machine, over TLS neither", async (host) => {
    const { url, requests } = await service();
    const { port } = new URL(url);
    for (const scheme of ["http", "https"]) {
      const answer = await client({ allowed: [] }).send(request(`${scheme}://${host}:${port}/`));
      expect(answer).toMatchObject({ kind: "unreachable", reason: expect.stringMatching(/ is \w/) as string });
    }
    expect(requests).toEqual([]);
  });

  test.each([
    ...["127.0.0.1", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "fe80::1%lo", "fd00:ec2::254"],
    ...["169.254.169.254", "100.100.100.200", "0.0.0.0", "224.0.0.1", "0x7f.1", ""],
  ])("SSRF-5: a name with the address %j is refused, over TLS too", async (address) => {
    const { url, requests } = await service();
    const { resolve } = resolver([address]);
    for (const scheme of ["http", "https"]) {
      const named = `${scheme}://inner.example:${new URL(url).port}/`;
      expect(await client({ allowed: [], resolve }).send(request(named))).toMatchObject({
        kind: "unreachable",
        reason: expect.stringContaining(`${address} is `) as string,
      });
    }
    expect(requests).toEqual([]);
  });

  test("SSRF-5: a name is refused by any of its addresses", async () => {
    const { url, requests } = await service();
    const { resolve } = resolver(["8.8.8.8", "169.254.169.254"]);
    const answer = await client({ resolve }).send(request(url.replace("127.0.0.1", "metadata.example")));
    expect(answer).toMatchObject({ kind: "unreachable", reason: expect.stringContaining("169.254.169.254") });
    expect(requests).toEqual([]);
  });

  test("SSRF-6: the connection uses the address that was checked: a name is resolved once for it", async () => {
    const { url, requests } = await service();
    const rebinding = resolver(["127.0.0.1"], ["10.0.0.1"]);
    const own = client({ resolve: rebinding.resolve });
    const named = url.replace("127.0.0.1", "rebinding.example");
    expect(await own.send(request(named))).toMatchObject({ kind: "answered", status: 200 });
    expect(rebinding.asked()).toBe(1);
    expect(requests[0]?.headers.host).toContain("rebinding.example");
  });

  test("SSRF-6: each new connection is checked anew", async () => {
    const { url, requests } = await service();
    const rebinding = resolver(["127.0.0.1"], ["10.0.0.1"]);
    const named = url.replace("127.0.0.1", "rebinding.example");
    expect(await client({ resolve: rebinding.resolve }).send(request(named))).toMatchObject({ kind: "answered" });
    const later = await client({ resolve: rebinding.resolve }).send(request(named));
    expect(later).toMatchObject({ kind: "unreachable", reason: expect.stringContaining("10.0.0.1 is private") });
    expect(requests.length).toBe(1);
  });

  test("SSRF-7: a redirect is an answer, and is not followed", async () => {
    const inner = await service();
    const outer = await service();
    outer.answer = (_request, response) => response.writeHead(307, { location: inner.url }).end();
    expect(await client().send(request(outer.url))).toMatchObject({ kind: "answered", status: 307 });
    expect(inner.requests).toEqual([]);
  });
});

describe("answers", () => {
  test("EP-7: of a long answer no more than 64 KiB are read, and its status counts", async () => {
    const url = await rawServer((socket) => {
      socket.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
      flood(socket, `${(16_384).toString(16)}\r\n${"x".repeat(16_384)}\r\n`);
    });
    expect(await client().send(request(url))).toMatchObject({ kind: "answer_too_large", status: 200 });
  });

  test.each([70_000, 2 ** 21])("EP-6: of an answer of %i bytes the beginning is kept", async (bytes) => {
    const endpoint = await service();
    endpoint.answer = (_request, response) =>
      response.writeHead(500, { "content-length": bytes }).end("it broke".padEnd(bytes, "."));
    const answer = await client().send(request(endpoint.url));
    expect(answer).toMatchObject({ kind: "answer_too_large", status: 500 });
    const { body } = answer as ExchangeResult & { kind: "answer_too_large" };
    expect(body.toString("utf8")).toMatch(/^it broke\.{1000}/);
  });

  test("EP-7: the status of a too long answer counts, also where nothing of its body comes", async () => {
    const url = await rawServer((socket) => socket.write("HTTP/1.1 404 Not Found\r\ncontent-length: 9999999\r\n\r\n"));
    const answer = await client().send({ ...request(url), timeoutMs: 100 });
    expect(answer).toMatchObject({ kind: "answer_too_large", status: 404 });
  });

  test("EP-7: a compressed answer is not decompressed", async () => {
    const bomb = gzipSync(Buffer.alloc(8 * 1024 * 1024));
    const endpoint = await service();
    endpoint.answer = (_request, response) => response.writeHead(200, { "content-encoding": "gzip" }).end(bomb);
    const answer = await client().send(request(endpoint.url));
    expect(answer).toMatchObject({ kind: "answered", status: 200, body: bomb });
  });

  test("EP-7: headers without an end are cut off", async () => {
    const url = await rawServer((socket) => {
      socket.write("HTTP/1.1 200 OK\r\n");
      flood(socket, `x-endless: ${"y".repeat(1_000)}\r\n`);
    });
    expect(await client().send(request(url))).toMatchObject({
      kind: "unanswered",
      reason: expect.stringContaining("the connection was cut") as string,
    });
  });

  test("EP-7: informational responses without an end are cut off, and a few of them do no harm", async () => {
    const hint = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
    const endless = await rawServer((socket) => flood(socket, hint.repeat(100)));
    const cut = await client().send(request(endless));
    expect(cut).toMatchObject({ kind: "unanswered", reason: "too many informational responses" });
    const few = await rawServer((socket) => socket.end(`${hint.repeat(3)}HTTP/1.1 204 No Content\r\n\r\n`));
    expect(await client().send(request(few))).toMatchObject({ kind: "answered", status: 204 });
  });

  test("EP-7: a 100 Continue that nobody asked for ends the attempt, with that reason", async () => {
    const url = await rawServer((socket) => socket.end("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"));
    const reason = expect.stringContaining("100 Continue") as string;
    expect(await client().send(request(url))).toMatchObject({ kind: "unanswered", reason });
  });

  test.each([
    ["empty lines before an answer", "", "\r\n".repeat(8_192)],
    ["the extension of a chunk", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;x=", "y".repeat(16_384)],
  ])("EP-7: %s, without an end, ends the connection", async (_what, begin, text) => {
    const url = await rawServer((socket) => {
      socket.write(begin);
      flood(socket, text);
    });
    expect(await client().send(request(url))).toMatchObject({
      kind: "unanswered",
      reason: "the connection was cut (ERR_FLOOD)",
    });
  });

  test("EP-7: an answer that drips ends with the time for it", async () => {
    const url = await rawServer((socket) => {
      socket.write("HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n");
      const timer = setInterval(() => socket.write("x"), 20);
      socket.on("close", () => clearInterval(timer));
    });
    expect(await client().send(request(url, 300))).toMatchObject({
      kind: "unanswered",
      reason: "no answer within 300 ms",
    });
  });

  test.each([
    ["garbage", "SSH-2.0-OpenSSH_9.2\r\n\r\n"],
    ["a cut after the headers", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"],
    ["nothing", ""],
  ])("EP-7: %s is no answer, and the reason says why", async (_what, text) => {
    const url = await rawServer((socket) => socket.end(text));
    expect(await client().send(request(url))).toMatchObject({
      kind: "unanswered",
      reason: expect.stringMatching(/^the connection was cut \(.+\)$/) as string,
    });
  });

  test("EP-29: names whose name server does not answer wait for each other, and no others for them", async () => {
    const endpoints = [await service(), await service()] as const;
    const hanging: (() => void)[] = [];
    const { resolve } = resolver(["127.0.0.1"]);
    const own = client({
      resolve: (hostname, options, callback) => {
        if (hostname.startsWith("hangs")) hanging.push(() => callback(new Error("no name server answered"), ""));
        else resolve(hostname, options, callback);
      },
    });
    const [first, second] = endpoints.map(({ url }) => url.replace("127.0.0.1", "answers.example"));
    expect(await own.send(request(first ?? ""))).toMatchObject({ kind: "answered" });
    const hung = Array.from({ length: 20 }, async (_, at) =>
      own.send(request(`http://hangs-${at % 10}.example/`, 500)),
    );
    // The name is looked up once more for a new connection.
    expect(await own.send(request(second ?? ""))).toMatchObject({ kind: "answered" });
    expect(hanging.length).toBe(2);
    for (const answer of await Promise.all(hung)) expect(answer.kind).toBe("unreachable");
    for (const fail of hanging) fail();
  });

  test("EP-29: where names that were quick before keep all places, others use their last addresses", async () => {
    const endpoints = [await service(), await service()] as const;
    const hanging: (() => void)[] = [];
    const { resolve } = resolver(["127.0.0.1"]);
    let areHanging = false;
    const own = client({
      resolve: (hostname, options, callback) => {
        if (areHanging) hanging.push(() => callback(new Error("no name server answered"), ""));
        else resolve(hostname, options, callback);
      },
    });
    const [first = "", second = ""] = endpoints.map(({ url }) => url.replace("127.0.0.1", "answers.example"));
    const { port } = new URL(second);
    for (let at = 0; at < 3; at++) await own.send(request(`http://hangs-${at}.example:${port}/`));
    expect(await own.send(request(first))).toMatchObject({ kind: "answered" });
    areHanging = true;
    const { port: other } = new URL(first);
    const hung = Array.from({ length: 3 }, async (_, at) =>
      own.send(request(`http://hangs-${at}.example:${other}/`, 500)),
    );
    await eventually(() => hanging.length === 3);
    expect(await own.send(request(second))).toMatchObject({ kind: "answered" });
    expect(hanging.length).toBe(3);
    for (const answer of await Promise.all(hung)) expect(answer.kind).toBe("unreachable");
    for (const fail of hanging) fail();
  });

  test("EP-8: an idle connection is used again until two seconds before the endpoint closes it", async () => {
    const connectionsAt = async (keptSeconds: number): Promise<number> => {
      const endpoint = await service();
      const ports = new Set<number | undefined>();
      endpoint.answer = (_request, response) => {
        ports.add(response.socket?.remotePort);
        response.writeHead(204, { "keep-alive": `timeout=${keptSeconds}` }).end();
      };
      const own = client();
      for (let sent = 0; sent < 5; sent++) await own.send(request(endpoint.url));
      return ports.size;
    };
    expect(await connectionsAt(2)).toBe(5);
    // The first request may not have given its connection back when the second one is sent.
    expect(await connectionsAt(60)).toBeLessThanOrEqual(2);
  });

  test("EP-8: a thousand origins and more leave no more than a thousand pools", async () => {
    const { resolve } = resolver(["127.0.0.1"]);
    const endpoint = await service();
    const own = client({ resolve });
    const { port } = new URL(endpoint.url);
    for (let at = 0; at < 1_050; at++) {
      const answer = await own.send(request(`http://host-${at}.example:${port}/`));
      expect(answer.kind).toBe("answered");
    }
    expect(own.origins).toBe(1_000);
  });
});
