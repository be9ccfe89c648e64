/** Hostile input over HTTP polling, and its upgrades to a websocket. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from "vitest";
import { eventually } from "../support/eventually.ts";
import { type Fleet, startFleet } from "../support/fleet.ts";
import { metricOf } from "../support/gateway-metrics.ts";
import { openPolling, poll, pollingSession, post } from "../support/polling.ts";
import { ended, pingFrame, upgradeRequest } from "../support/raw-websocket.ts";

let fleet: Fleet;
let url: string;
beforeAll(async () => {
  fleet = await startFleet({ environment: { GATEWAY_TRANSPORTS: "websocket,polling" } });
  url = fleet.urls[0] ?? "";
});
afterAll(async () => fleet.stop());

async function metric(series: string): Promise<number> {
  return metricOf(fleet.gateways[0], series);
}

async function upgradePolling(sid: string): Promise<Socket> {
  const socket = connect(Number(new URL(url).port), "127.0.0.1");
  socket.write(upgradeRequest(new URL(url), `&sid=${sid}`));
  return socket;
}

test("CON-14: polling by JSON-P, which a page of any origin could read, is refused with 400", async () => {
  for (const query of [
    "transport=polling&j=0",
    "j=&transport=polling",
    "transport=polling&j=0&j=1",
    "%6a=0&transport=polling",
  ]) {
    const answer = await fetch(`${url}/socket.io/?EIO=4&${query}`);
    expect([query, answer.status, await answer.text()]).toEqual([query, 400, "polling by JSON-P (j) is not supported"]);
  }
  // Once a connection is open the parameter changes nothing.
  const { sid } = await pollingSession(url);
  const polled = poll(url, `${sid}&j=0`);
  await post(url, sid, '421["no.route",1]');
  expect(await polled).toMatch(/^431\[/);
});

test("LIM-9: a polling request of more than 64 KiB is refused until the session begins", async () => {
  const { sid } = await openPolling(url);
  const answer = await post(url, sid, `40${JSON.stringify({ token: "x".repeat(70_000) })}`);
  expect(answer.status).toBe(413);
  const client = await pollingSession(url);
  const event = `42["doc.open",${JSON.stringify("x".repeat(60_000))}]`;
  expect((await post(url, client.sid, `${event}\u001e${event}`)).status).toBe(200);
});

test("LIM-9: a polling request with twenty-one packets ends its connection", async () => {
  const { sid } = await openPolling(url);
  const before = await metric('floods_total{cause="packets"}');
  await post(url, sid, Array.from({ length: 21 }, () => "3").join("\u001e")).catch(() => undefined);
  expect(await metric('floods_total{cause="packets"}')).toBe(before + 1);
});

/** Of 60,000 bytes each; a character of the second one has three. */
const texts = ["x", "\u6f22"].map((character) => character.repeat(60_000 / Buffer.byteLength(character)));

test("LIM-9: a polling connection that sends more than 64 KiB in several requests before its session is cut", async () => {
  for (const text of texts) {
    const { sid } = await openPolling(url);
    const before = await metric('floods_total{cause="entering"}');
    for (let i = 0; i < 2; i++) await post(url, sid, `6${text}`).catch(() => undefined);
    expect(await metric('floods_total{cause="entering"}')).toBe(before + 1);
  }
});

test("LIM-10: past twice 64 KiB at a rate of 64 KiB a second a polling connection is cut", async () => {
  const slow = await startFleet({
    environment: { GATEWAY_MESSAGES_PER_SECOND: "1", GATEWAY_TRANSPORTS: "websocket,polling" },
  });
  onTestFinished(() => slow.stop());
  const [at = ""] = slow.urls;
  for (const [index, text] of texts.entries()) {
    const { sid } = await pollingSession(at);
    const event = `42["doc.open",${JSON.stringify(text)}]`;
    await post(at, sid, Array.from({ length: 4 }, () => event).join("\u001e")).catch(() => undefined);
    await eventually(async () => (await poll(at, sid)).includes("Session ID unknown"));
    expect(await metricOf(slow.gateways[0], 'floods_total{cause="bytes"}')).toBe(index + 1);
  }
});

test("LIM-11: a polling request with more than a thousand packets ends its connection", async () => {
  const { sid } = await pollingSession(url);
  const before = await metric('floods_total{cause="packets"}');
  await post(url, sid, Array.from({ length: 1_001 }, () => "3").join("\u001e")).catch(() => undefined);
  await eventually(async () => (await poll(url, sid)).includes("Session ID unknown"));
  expect(await metric('floods_total{cause="packets"}')).toBe(before + 1);
});

test("LIM-12: a polling connection upgrades to one websocket; any further one is reset", async () => {
  const { sid } = await pollingSession(url);
  const silent = await upgradePolling((await pollingSession(url)).sid);
  await once(silent, "data");
  const first = await upgradePolling(sid);
  await once(first, "data");
  await ended(await upgradePolling(sid));
  expect(first.destroyed).toBe(false);
  // The first one is still the one that is counted and cut, before the library gives up an upgrade that came earlier.
  const over = Promise.race([ended(first).then(() => "first"), ended(silent).then(() => "silent")]);
  first.write(Buffer.concat(Array.from({ length: 200 }, () => pingFrame(""))));
  expect(await over).toBe("first");
  silent.destroy();
});

test("LIM-12: upgrades beside the first one count as frames without an event", async () => {
  const { sid } = await pollingSession(url);
  const before = await metric('floods_total{cause="controls"}');
  const first = await upgradePolling(sid);
  await once(first, "data");
  const over = ended(first);
  // No time passes for the budget, however long the upgrades take.
  const clock = vi.spyOn(performance, "now").mockReturnValue(performance.now());
  onTestFinished(() => clock.mockRestore());
  await Promise.all(Array.from({ length: 110 }, async () => ended(await upgradePolling(sid))));
  await over;
  expect(await metric('floods_total{cause="controls"}')).toBe(before + 1);
});

test("LIM-11: a polling request with many pongs ends its connection, as on a websocket", async () => {
  const { sid } = await pollingSession(url);
  await post(url, sid, Array.from({ length: 200 }, () => "3").join("\u001e")).catch(() => undefined);
  await eventually(async () => (await poll(url, sid)).includes("Session ID unknown"));
});
