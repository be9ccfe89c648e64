/** The board of `npm start` in real browser windows. */
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { launchChromium } from "../support/chromium.ts";
import { freePort, type Spawned, spawnProcess } from "../support/processes.ts";

let demo: Spawned;
let browser: Browser;
let url: string;

async function startDemo(port: number): Promise<void> {
  demo = spawnProcess(process.execPath, ["examples/board/start.ts"], {
    env: { GATEWAY_PORT: String(port), GATEWAY_ADMIN_PORT: "0", PRIVATE_API_PORT: "0", BOARD_PORT: "0" },
  });
  const line = await demo.printed("in two windows");
  url = /http:\S+/.exec(line)?.[0] ?? "";
}

async function stopDemo(): Promise<void> {
  demo.kill("SIGTERM");
  await demo.exited;
}

beforeAll(async () => {
  // One that no other program takes while the demo restarts.
  await startDemo(await freePort());
  browser = await launchChromium();
});
afterAll(async () => {
  await browser.close();
  await stopDemo();
});

async function openBoard(name: string): Promise<Page> {
  const page = await (await browser.newContext()).newPage();
  await page.goto(`${url}/?name=${name}`);
  await page.locator('#state[data-status="connected"]').waitFor();
  return page;
}

function card(page: Page, column: string, title: string): ReturnType<Page["locator"]> {
  return page.locator(`[data-column="${column}"] .card`, { hasText: title });
}

/** Drags the card over the column without dropping it. */
async function carry(page: Page, from: string, title: string, to: string): Promise<void> {
  // Waits until the card's animation has ended.
  await card(page, from, title).hover();
  const target = await page.locator(`[data-column="${to}"]`).boundingBox();
  if (!target) throw new Error("the board is not laid out");
  await page.mouse.down();
  await page.mouse.move(target.x + target.width / 2, target.y + 80, { steps: 12 });
}

/** Each column's visible titles, from top to bottom. */
async function layout(page: Page): Promise<string[][]> {
  const columns = await page.locator(".column").all();
  return Promise.all(columns.map((column) => column.locator(".title").allTextContents()));
}

test("DEMO-1: a card added and moved in one window appears in the other, with live cursors", async () => {
  const [ada, grace] = [await openBoard("Ada"), await openBoard("Grace")];
  const field = ada.locator('[data-column="todo"] input');
  await field.fill("Write the release notes");
  await field.press("Enter");
  await card(grace, "todo", "Write the release notes").waitFor();

  await carry(grace, "todo", "Write the release notes", "done");
  await ada.locator("#cursors span", { hasText: "Grace" }).waitFor();
  await grace.mouse.up();
  await card(ada, "done", "Write the release notes").waitFor();
  await card(grace, "done", "Write the release notes").waitFor();
  expect(await card(ada, "todo", "Write the release notes").count()).toBe(0);
  await ada.locator('#people [title="Grace"]').waitFor();
});

test("DEMO-2: of two people who move the same card the first wins and the other is notified", async () => {
  const [ada, grace, witness] = [await openBoard("Ada"), await openBoard("Grace"), await openBoard("Alan")];
  const title = "Start Tidegate";
  await card(ada, "done", title).waitFor();
  await card(grace, "done", title).waitFor();
  await carry(ada, "done", title, "todo");
  await carry(grace, "done", title, "doing");
  await ada.mouse.up();
  await card(witness, "todo", title).waitFor();
  await grace.mouse.up();
  await grace.locator("#notice", { hasText: "Ada was first" }).waitFor();
  await card(grace, "todo", title).waitFor();
  expect(await layout(grace)).toEqual(await layout(ada));
  expect(await card(ada, "todo", title).count()).toBe(1);
  expect(await ada.locator("#notice").isVisible()).toBe(false);
});

test("DEMO-3: concurrent changes of different cards both succeed", async () => {
  const [ada, grace, witness] = [await openBoard("Ada"), await openBoard("Grace"), await openBoard("Alan")];
  const [hers, theirs] = ["Open this page in a second window", "Double-click a card to rename it"];
  await card(ada, "todo", hers).waitFor();
  await card(grace, "doing", theirs).waitFor();
  await carry(ada, "todo", hers, "done");
  await carry(grace, "doing", theirs, "todo");
  await ada.mouse.up();
  await card(witness, "done", hers).waitFor();
  await grace.mouse.up();
  for (const page of [ada, grace, witness]) {
    await card(page, "done", hers).waitFor();
    await card(page, "todo", theirs).waitFor();
    expect(await page.locator("#notice").isVisible()).toBe(false);
  }
  expect(await layout(grace)).toEqual(await layout(ada));
});

test("DEMO-5: after a restart that loses all data the page recovers and shows the new state", async () => {
  const ada = await openBoard("Ada");
  const field = ada.locator('[data-column="doing"] input');
  await field.fill("Gone with the restart");
  await field.press("Enter");
  await card(ada, "doing", "Gone with the restart").waitFor();
  await stopDemo();
  await ada.locator('#state:not([data-status="connected"])').waitFor();
  await startDemo(Number(new URL(url).port));
  await card(ada, "doing", "Gone with the restart").waitFor({ state: "detached" });
  const title = "Start Tidegate";
  await carry(ada, "done", title, "todo");
  await ada.mouse.up();
  const grace = await openBoard("Grace");
  await card(grace, "todo", title).waitFor();
  expect(await layout(ada)).toEqual(await layout(grace));
});
