/** The SDK in a real browser whose network is cut. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Browser, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { launchChromium } from "../support/chromium.ts";
import { eventually } from "../support/eventually.ts";
import { FakeGateway } from "../unit/client-fake-gateway.ts";

const sdk = readFileSync(join(import.meta.dirname, "../../client/dist/browser.js"));
/** Each state of the client with its time. */
const html = `<!doctype html><script type="module">
  import { connect } from "/sdk.js";
  window.states = [];
  window.client = connect({ url: location.origin, token: "token" });
  client.onState((state) => states.push({ ...state, at: performance.now() }));
</script>`;

interface Shown {
  status: string;
  retryInMs?: number;
  at: number;
}

let browser: Browser;
let gateway: FakeGateway;
let page: Page;

beforeAll(async () => {
  browser = await launchChromium();
});
afterAll(() => browser.close());
beforeEach(async () => {
  gateway = new FakeGateway(({ url }, response) => {
    const isSdk = url === "/sdk.js";
    response.writeHead(200, { "content-type": isSdk ? "text/javascript" : "text/html" }).end(isSdk ? sdk : html);
  });
  // A gateway that lost its clients would see them again after two minutes at the earliest.
  gateway.welcome = { resumeToken: "resume", reconnect: { minDelayMs: 120_000, windowMs: 60_000 } };
  await gateway.start();
  page = await browser.newPage();
  // A gateway on the browser's own machine is reached without a network.
  await page.goto(gateway.url.replace("127.0.0.1", "gateway.test"));
  await eventually(async () => (await states()).at(-1)?.status === "connected");
});
afterEach(async () => {
  await page.close();
  await gateway.stop();
});

const states = async (): Promise<Shown[]> => page.evaluate("states");

async function offline(): Promise<void> {
  await page.context().setOffline(true);
  gateway.cut();
  await eventually(async () => (await states()).at(-1)?.status === "waiting");
}

test("SDK-18: a browser without a network makes no attempt, and connects when the network is back", async () => {
  await offline();
  const before = await states();
  const { retryInMs = 0, at = 0 } = before.at(-1) ?? {};
  // A local loss: a backoff of a second at most, not the gateway's window.
  expect(retryInMs).toBeLessThanOrEqual(1_000);
  await page.waitForFunction(`performance.now() > ${at + retryInMs + 300}`);
  expect(await states()).toEqual(before);
  await page.context().setOffline(false);
  await eventually(() => gateway.sockets.length === 2, 30_000);
  await eventually(async () => (await states()).at(-1)?.status === "connected");
  expect((await states()).slice(before.length).map(({ status }) => status)).toContain("connecting");
  expect(gateway.handshakes[1]).toMatchObject({ resume: "resume" });
});

test("SDK-18: a network that is gone for a moment does not cost the wait that the gateway asked for", async () => {
  await page.context().setOffline(true);
  await page.context().setOffline(false);
  // The connection turns out to be dead only now.
  gateway.cut();
  await eventually(() => gateway.sockets.length === 2, 30_000);
});

test("SDK-18: retry() connects at once while the client waits", async () => {
  gateway.cut();
  await eventually(async () => (await states()).at(-1)?.status === "waiting");
  expect((await states()).at(-1)?.retryInMs).toBeGreaterThanOrEqual(120_000);
  await page.evaluate("client.retry()");
  await eventually(() => gateway.sockets.length === 2, 30_000);
});
