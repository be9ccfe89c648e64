/** What a person sees after the README's first command: two browser windows that stay in sync. */
import { type Browser, chromium, type Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Spawned, spawnProcess } from "../support/processes.ts";

const chromiumArguments = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

let demo: Spawned;
let browser: Browser;
let url: string;

beforeAll(async () => {
  demo = spawnProcess(process.execPath, ["examples/board/start.ts"], {
    env: { GATEWAY_PORT: "0", GATEWAY_ADMIN_PORT: "0", PRIVATE_API_PORT: "0", BOARD_PORT: "0" },
  });
  const line = await demo.printed("in two windows");
  url = /http:\S+/.exec(line)?.[0] ?? "";
  browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: chromiumArguments });
});
afterAll(async () => {
  await browser.close();
  demo.kill("SIGTERM");
  await demo.exited;
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

test("DEMO-1: a card that is added and moved in one window is so in the other; people see each other's cursors", async () => {
  const [ada, grace] = [await openBoard("Ada"), await openBoard("Grace")];
  const field = ada.locator('[data-column="todo"] input');
  await field.fill("Write the release notes");
  await field.press("Enter");
  await card(grace, "todo", "Write the release notes").waitFor();

  const from = await card(grace, "todo", "Write the release notes").boundingBox();
  const to = await grace.locator('[data-column="done"]').boundingBox();
  if (!from || !to) throw new Error("the board is not laid out");
  await grace.mouse.move(from.x + from.width / 2, from.y + from.height / 2);
  await grace.mouse.down();
  await grace.mouse.move(to.x + to.width / 2, to.y + 80, { steps: 12 });
  await ada.locator("#cursors span", { hasText: "Grace" }).waitFor();
  await grace.mouse.up();
  await card(ada, "done", "Write the release notes").waitFor();
  await card(grace, "done", "Write the release notes").waitFor();
  expect(await card(ada, "todo", "Write the release notes").count()).toBe(0);
  await ada.locator('#people [title="Grace"]').waitFor();
});
