/** Routes with a rollout to another service, and routes with a shadow. */
import { jwtVerify } from "jose";
import { Webhook } from "standardwebhooks";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { type Fleet, serviceSecret, startFleet } from "../support/fleet.ts";
import { answerJson, type HttpService, startService } from "../support/http-service.ts";
import { freePort } from "../support/processes.ts";
import { closeClients, connectClient } from "../support/stock-client.ts";

let fleet: Fleet;
let service: HttpService;
let other: HttpService;
const otherSecret = `whsec_${Buffer.from("the other service's own secret!!").toString("base64")}`;

beforeAll(async () => {
  service = await startService();
  other = await startService();
  const route = (event: string, more: object): object => ({
    ...{ event, service: "old", path: "/events/{event}", mode: "call" },
    ...more,
  });
  fleet = await startFleet({
    rules: {
      services: {
        old: { url: service.url, secret: serviceSecret, timeoutMs: 60_000 },
        new: { url: `${other.url}/v2`, secret: otherSecret, timeoutMs: 30_000 },
        hasty: { url: other.url, secret: otherSecret, timeoutMs: 2_000 },
        narrow: { url: other.url, secret: otherSecret, maxInFlight: 2, timeoutMs: 60_000 },
        patient: { url: other.url, secret: otherSecret, timeoutMs: 60_000 },
        gone: { url: `http://127.0.0.1:${await freePort()}`, secret: otherSecret },
      },
      routes: [
        route("rolled", { rollout: { to: "new", percent: 50 } }),
        route("tenant", { rollout: { to: "new", percent: 50, by: "tenant" } }),
        route("all", { rollout: { to: "new", percent: 100 }, shadow: "new" }),
        route("shorter", { rollout: { to: "hasty", percent: 100 } }),
        route("longer", { service: "hasty", rollout: { to: "patient", percent: 100 } }),
        route("shadowed", { shadow: "new" }),
        route("hurried", { shadow: "hasty" }),
        route("compared", { shadow: "patient" }),
        route("narrow", { shadow: "narrow" }),
        route("patient", { shadow: "patient" }),
        route("gone", { shadow: "gone" }),
      ],
    },
  });
});
beforeEach(() => {
  service.answer = (request, response) =>
    answerJson(response, { from: "old", body: JSON.parse(request.body) as unknown });
  other.answer = (request, response) =>
    answerJson(response, { from: "new", body: JSON.parse(request.body) as unknown });
});
afterEach(closeClients);
afterAll(async () => {
  await fleet.stop();
  await service.stop();
  await other.stop();
});

async function whoAnswers(event: string, claims: Record<string, unknown>): Promise<unknown> {
  const client = await connectClient(fleet.urls[0] ?? "", claims);
  return ((await client.request(event)).data as { from: string }).from;
}

async function shadowCounts(): Promise<Record<string, number>> {
  const text = await (await fetch(`${fleet.apiUrl}/metrics`)).text();
  return Object.fromEntries(
    [...text.matchAll(/^tidegate_shadow_total\{outcome="(\w+)"\} (\d+)$/gm)].map(([, name = "", n]) => [
      name,
      Number(n),
    ]),
  );
}

/** Resolves once the outcome's count has grown by this much, or no longer changes. */
async function counted(outcome: string, from: Record<string, number>, by = 1): Promise<void> {
  await eventually(async () => ((await shadowCounts())[outcome] ?? 0) === (from[outcome] ?? 0) + by);
}

test("ROLL-6: the other service answers its part of the users, signed with its own secret", async () => {
  const users = Array.from({ length: 12 }, (_, i) => `user-${i}`);
  const first = await Promise.all(users.map((sub) => whoAnswers("rolled", { sub })));
  const onTheOther = users.filter((_user, index) => first[index] === "new");
  expect(onTheOther).toEqual(["user-3", "user-7"]);
  expect(await Promise.all(users.map((sub) => whoAnswers("rolled", { sub })))).toEqual(first);

  const request = other.requests.at(-1);
  expect(request?.path).toBe("/v2/events/rolled");
  expect(new Webhook(otherSecret).verify(request?.body ?? "", request?.headers as Record<string, string>)).toBeNull();
  const token = String(request?.headers["authorization"]).replace("Bearer ", "");
  await jwtVerify(token, new TextEncoder().encode(otherSecret), { audience: "new" });
  expect(request?.headers["tidegate-shadow"]).toBeUndefined();
  expect(Number(request?.headers["tidegate-timeout-ms"])).toBeLessThanOrEqual(30_000);
});

test("ROLL-6: the timeout is that of the service that gets the call", async () => {
  let answerLonger: (() => void) | undefined;
  other.answer = ({ path }, response) => {
    if (path.endsWith("/longer")) answerLonger = () => answerJson(response, "late");
  };
  const client = await connectClient(fleet.urls[0] ?? "");
  const longer = client.request("longer");
  await eventually(() => answerLonger !== undefined);
  expect((await client.request("shorter")).error?.code).toBe("upstream_timeout");
  // The call that began before it still waits: the shorter one did not take the minute of its route's own service.
  answerLonger?.();
  expect((await longer).data).toBe("late");
});

test("ROLL-7: a rollout by tenant moves whole tenants", async () => {
  const tenants = new Map<string, Set<unknown>>();
  for (let i = 0; i < 24; i++) {
    const tenant = `tenant-${i % 6}`;
    const from = await whoAnswers("tenant", { sub: `user-${i}`, tenant });
    tenants.set(tenant, (tenants.get(tenant) ?? new Set()).add(from));
  }
  expect([...tenants.values()].map(({ size }) => size)).toEqual([1, 1, 1, 1, 1, 1]);
  expect(new Set([...tenants.values()].flatMap((from) => [...from]))).toEqual(new Set(["old", "new"]));
});

test("ROLL-8: a rollout or shadow must name another service of the document", async () => {
  const route = { event: "a", service: "one", path: "/", mode: "call" };
  const { body } = await fleet.api("PUT", "/v1/rules", {
    services: { one: { url: service.url, secret: serviceSecret } },
    routes: [
      { ...route, event: "a", rollout: { to: "none", percent: 10 }, shadow: "nobody" },
      { ...route, event: "b", rollout: { to: "one", percent: 1.234 }, shadow: "one" },
      { ...route, event: "c", rollout: { to: "one", percent: 101, by: "moon" } },
    ],
  });
  expect((body["errors"] as string[]).sort()).toEqual([
    expect.stringContaining("routes.0.rollout.to: no such service"),
    expect.stringContaining("routes.0.shadow: no such service"),
    "routes.1.rollout.percent: has more than two decimals",
    "routes.1.rollout.to: is the route's own service",
    "routes.1.shadow: is the route's own service",
    expect.stringContaining("routes.2.rollout.by"),
    expect.stringContaining("routes.2.rollout.percent"),
  ]);
});

test("SHAD-1: the shadow gets the same request, signed and marked; the service's answer counts", async () => {
  const before = await shadowCounts();
  const client = await connectClient(fleet.urls[0] ?? "");
  const ack = await client.request("shadowed", { text: "ä" }, { id: "7" });
  expect(ack).toEqual({ ok: true, data: { from: "old", body: { text: "ä" } } });
  await counted("different", before);
  const [own, shadow] = [service.requests.at(-1), other.requests.at(-1)];
  expect(shadow?.path).toBe("/v2/events/shadowed");
  expect(shadow?.body).toBe(own?.body);
  for (const name of ["ce-id", "ce-type", "ce-source", "ce-subject", "ce-session", "traceparent"]) {
    expect(shadow?.headers[name]).toBe(own?.headers[name]);
  }
  expect([own?.headers["tidegate-shadow"], shadow?.headers["tidegate-shadow"]]).toEqual([undefined, "true"]);
  new Webhook(otherSecret).verify(shadow?.body ?? "", shadow?.headers as Record<string, string>);
  const token = String(shadow?.headers["authorization"]).replace("Bearer ", "");
  await jwtVerify(token, new TextEncoder().encode(otherSecret), { audience: "new" });
});

test("SHAD-1: a shadow that hangs, fails or is missing changes nothing for the client", async () => {
  const client = await connectClient(fleet.urls[0] ?? "");
  const before = await shadowCounts();
  const held: (() => void)[] = [];
  other.answer = (_request, response) => void held.push(() => response.destroy());
  const ack = { ok: true, data: { from: "old", body: 1 } };
  // Every call is answered while the shadow has answered none.
  const acks = await Promise.all(Array.from({ length: 20 }, () => client.request("patient", 1)));
  for (const one of acks) expect(one).toEqual(ack);
  await eventually(() => held.length === 20);
  expect(await shadowCounts()).toEqual(before);
  for (const breakOff of held) breakOff();
  await counted("failed", before, 20);
  // Too late for the service's own timeout, although the caller would wait longer.
  expect(await client.request("hurried", 1)).toEqual(ack);
  await counted("failed", before, 21);
  expect(await client.request("gone", 1)).toEqual(ack);
  await counted("failed", before, 22);
});

test("SHAD-1: a call rolled out to the shadow reaches it once, and gets its answer", async () => {
  const before = await shadowCounts();
  const asked = other.requests.length;
  expect(await whoAnswers("all", {})).toBe("new");
  expect(other.requests).toHaveLength(asked + 1);
  expect(await shadowCounts()).toEqual(before);
});

test("SHAD-2: answers differ by class of status and by JSON value, not by the order of members", async () => {
  const client = await connectClient(fleet.urls[0] ?? "");
  const answers =
    (body: string, status = 200) =>
    (_: unknown, response: Parameters<HttpService["answer"]>[1]) => {
      response.writeHead(status, { "content-type": "application/json" }).end(body);
    };
  for (const [own, shadow, outcome] of [
    [answers('{"a":1,"b":[{"c":2,"d":null}]}'), answers(' {"b":[{"d":null,"c":2}],"a":1}', 201), "same"],
    [answers('{"a":1}'), answers('{"a":1}', 500), "different"],
    [answers('{"code":"no","message":"a"}', 403), answers('{"code":"no","message":"a"}', 404), "same"],
    [answers('{"a":[1,2]}'), answers('{"a":[2,1]}'), "different"],
    [answers('{"a":[]}'), answers('{"a":{}}'), "different"],
    [answers('{"a":1}'), answers('{"a":1,"b":null}'), "different"],
    [answers("text"), answers("text"), "same"],
    [answers("text"), answers("other"), "different"],
    [answers("1"), answers('"1"'), "different"],
  ] as const) {
    const before = await shadowCounts();
    [service.answer, other.answer] = [own, shadow];
    await client.request("compared");
    await counted(outcome, before);
  }
});

test("SHAD-3: the log names the places of a difference, never a value", async () => {
  const client = await connectClient(fleet.urls[0] ?? "");
  const body = (secret: string): object => ({ user: { name: secret, "a/b": secret }, list: [1, secret], same: 1 });
  service.answer = (_request, response) => answerJson(response, body("hidden-of-old"));
  other.answer = (_request, response) => answerJson(response, { ...body("hidden-of-new"), more: "hidden-more" });
  await eventually(async () => {
    await client.request("compared", "hidden-data");
    return fleet.log().includes('"/user/a~1b"');
  });
  const line =
    fleet
      .log()
      .split("\n")
      .find((one) => one.includes('"/user/a~1b"')) ?? "";
  expect(JSON.parse(line)).toMatchObject({
    event: "compared",
    shadow: "patient",
    statuses: [200, 200],
    differences: ["/user/name", "/user/a~1b", "/list/1", "/more"],
  });
  expect(fleet.log()).not.toContain("hidden");
  const logged = (): number => fleet.log().split("the answer of a shadow differs").length - 1;
  const before = [await shadowCounts(), logged()] as const;
  // Another client: the first has used up a part of its rate.
  const crowd = await connectClient(fleet.urls[0] ?? "");
  await Promise.all(Array.from({ length: 50 }, () => crowd.request("compared")));
  // The first requests may be counted last.
  await eventually(async () => ((await shadowCounts())["different"] ?? 0) >= (before[0]["different"] ?? 0) + 50);
  expect(logged() - before[1]).toBeLessThan(10);
});

test("SHAD-4: requests beyond the shadow's limit are skipped and counted", async () => {
  const client = await connectClient(fleet.urls[0] ?? "");
  const before = await shadowCounts();
  const held: (() => void)[] = [];
  other.answer = (_request, response) => void held.push(() => answerJson(response, { from: "old", body: 1 }));
  const acks = await Promise.all(Array.from({ length: 10 }, () => client.request("narrow", 1)));
  expect(acks.every(({ ok }) => ok)).toBe(true);
  await counted("skipped", before, 8);
  await eventually(() => held.length === 2);
  for (const answer of held) answer();
  await counted("same", before, 2);
  // Their places are free again.
  other.answer = (_request, response) => answerJson(response, { from: "old", body: 1 });
  await client.request("narrow", 1);
  await counted("same", before, 3);

  service.answer = (_request, response) => response.destroy();
  expect((await client.request("narrow", 1)).ok).toBe(false);
  await counted("skipped", before, 9);
});

test("SHAD-4: requests beyond 64 at once for all shadows are skipped and counted", async () => {
  const client = await connectClient(fleet.urls[0] ?? "");
  const before = await shadowCounts();
  const held: (() => void)[] = [];
  other.answer = (request, response) =>
    void held.push(() => answerJson(response, { from: "old", body: JSON.parse(request.body) as unknown }));
  await Promise.all(Array.from({ length: 64 }, () => client.request("patient", 1)));
  await client.request("narrow", 1);
  await counted("skipped", before, 1);
  await eventually(() => held.length === 64);
  for (const answer of held) answer();
  await counted("same", before, 64);
});

test("SHAD-5: answers with too many values to compare are skipped, unless equal as text", async () => {
  const client = await connectClient(fleet.urls[0] ?? "");
  const answers =
    (body: string): HttpService["answer"] =>
    (_request, response) =>
      response.end(body);
  const few = JSON.stringify(["x".repeat(200_000), "y"]);
  const many = JSON.stringify(Array.from({ length: 20_001 }, () => 0));
  for (const [own, shadow, outcome] of [
    [many, many, "same"],
    [many, ` ${many}`, "skipped"],
    [few, ` ${few}`, "same"],
    [few, few.replace("y", "z"), "different"],
  ] as const) {
    const before = await shadowCounts();
    [service.answer, other.answer] = [answers(own), answers(shadow)];
    expect((await client.request("compared")).ok).toBe(true);
    await counted(outcome, before);
  }
});
