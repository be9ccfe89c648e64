/** A client in a page that loses its network, is hidden and shown. The page is an EventTarget. */
import { getEventListeners } from "node:events";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { GatewayAddress } from "../../client/src/connection/gateway-address.ts";
import type { ClientState } from "../../client/src/index.ts";
import { eventually } from "../support/eventually.ts";
import { clientsOf, FakeGateway, reached } from "./client-fake-gateway.ts";

let gateway: FakeGateway;
let page: EventTarget;
let document: EventTarget & { visibilityState?: string };
const navigator = { onLine: true };
const { open, closeAll } = clientsOf(() => gateway);

beforeEach(async () => {
  gateway = new FakeGateway();
  await gateway.start();
  // A reconnect window that no test outlives.
  gateway.welcome = { reconnect: { minDelayMs: 600_000, windowMs: 0 } };
  page = new EventTarget();
  document = new EventTarget();
  navigator.onLine = true;
  vi.stubGlobal("addEventListener", page.addEventListener.bind(page));
  vi.stubGlobal("removeEventListener", page.removeEventListener.bind(page));
  vi.stubGlobal("document", document);
  vi.stubGlobal("navigator", navigator);
  // The gateway of this test is on this machine, which a client reaches without a network.
  vi.spyOn(GatewayAddress.prototype, "isLoopback", "get").mockReturnValue(false);
});
afterEach(async () => {
  closeAll();
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
  await gateway.stop();
});

function setOnline(onLine: boolean): void {
  navigator.onLine = onLine;
  page.dispatchEvent(new Event(onLine ? "online" : "offline"));
}

function show(): void {
  document.visibilityState = "visible";
  document.dispatchEvent(new Event("visibilitychange"));
}

describe("client in a page", () => {
  test("SDK-18: without a network the client does not try, and connects once it is back", async () => {
    const client = open();
    await reached(client, "connected");
    setOnline(false);
    gateway.cut();
    // The reconnect window is for failures of gateways.
    expect(await reached(client, "waiting")).toMatchObject({ retryInMs: 0 });
    show();
    await reached(open(), "connected");
    expect(gateway.handshakes).toHaveLength(2);
    expect(client.state.status).toBe("waiting");
    setOnline(true);
    await reached(client, "connected");
    expect(gateway.handshakes).toHaveLength(3);
  });

  test.each<[string, (client: ReturnType<typeof open>) => void]>([
    ["the network is back", () => setOnline(true)],
    ["the page is visible again", show],
    ["the page is back from the browser's cache", () => page.dispatchEvent(new Event("pageshow"))],
    ["the application asks for it", (client) => client.retry()],
  ])("SDK-18: a wait of ten minutes ends when %s", async (_, end) => {
    const client = open();
    await reached(client, "connected");
    gateway.cut();
    expect(await reached(client, "waiting")).toMatchObject({ retryInMs: 600_000 });
    end(client);
    await reached(client, "connected");
  });

  test("SDK-18: a loss soon after an offline event is due to the network", async () => {
    const client = open();
    await reached(client, "connected");
    setOnline(false);
    setOnline(true);
    gateway.cut();
    expect(await reached(client, "waiting")).toMatchObject({ retryInMs: 0 });
    await reached(client, "connected");
  });

  test("SDK-18: nothing ends a wait that the gateway named", async () => {
    gateway.refusals.push({ code: "at_capacity", message: "full", retryable: true, retryAfterMs: 60_000 });
    const client = open();
    const waiting = await reached(client, "waiting");
    const states: ClientState[] = [];
    client.onState((state) => states.push(state));
    setOnline(true);
    show();
    client.retry();
    expect([client.state, states]).toEqual([waiting, []]);
    expect(gateway.handshakes).toHaveLength(1);
  });

  test("SDK-18: retry() after each failure makes one attempt a second", async () => {
    const attemptsAtMs = [performance.now()];
    // Nothing listens there.
    const client = open({ url: "http://127.0.0.1:1", random: () => 0.99 });
    client.onState(({ status }) => {
      if (status === "connecting") attemptsAtMs.push(performance.now());
      else client.retry();
    });
    await eventually(() => attemptsAtMs.length === 3);
    expect((attemptsAtMs[2] ?? 0) - (attemptsAtMs[0] ?? 0)).toBeGreaterThan(1_900);
  });

  test("SDK-1: close() removes the listeners of the page", async () => {
    const client = open();
    await reached(client, "connected");
    const counts = (): number[] =>
      [page, page, page, document].map(
        (target, index) =>
          getEventListeners(target, ["online", "offline", "pageshow", "visibilitychange"][index] ?? "").length,
      );
    expect(counts()).toEqual([1, 1, 1, 1]);
    client.close();
    expect(counts()).toEqual([0, 0, 0, 0]);
  });
});

test.each([
  ["http://localhost:8080", true],
  ["http://app.localhost", true],
  ["http://127.0.0.1:8080", true],
  ["http://[::1]:8080", true],
  ["https://sync.example.com", false],
  ["https://127.example.com", false],
  ["https://notlocalhost", false],
])("SDK-18: %s is on this machine: %s", (url, isLoopback) => {
  vi.restoreAllMocks();
  expect(new GatewayAddress({ url }).isLoopback).toBe(isLoopback);
});
