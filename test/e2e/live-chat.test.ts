/** The live chat of `npm run live-chat` in real browser windows. */
import type { Browser, FrameLocator, Locator, Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { launchChromium } from "../support/chromium.ts";
import { type Spawned, spawnProcess } from "../support/processes.ts";

let demo: Spawned;
let browser: Browser;
let url: string;

beforeAll(async () => {
  const ports = ["GATEWAY_PORT", "GATEWAY_ADMIN_PORT", "PRIVATE_API_PORT", "CHAT_PORT", "FACEBOOK_PORT"];
  demo = spawnProcess(process.execPath, ["examples/live-chat/start.ts"], {
    env: Object.fromEntries(ports.map((name) => [name, "0"])),
  });
  const line = await demo.printed("let a customer write");
  url = /http:\S+/.exec(line)?.[0] ?? "";
  browser = await launchChromium();
});
afterAll(async () => {
  await browser.close();
  demo.kill("SIGTERM");
  await demo.exited;
});

async function openChat(name: string): Promise<Page> {
  const page = await (await browser.newContext()).newPage();
  await page.goto(`${url}/?name=${name}`);
  await page.locator('#state[data-status="connected"]').waitFor();
  return page;
}

/** The simulated Facebook in the window. */
function facebookIn(page: Page): FrameLocator {
  return page.frameLocator("iframe");
}

function conversation(page: Page, customer: string): Locator {
  return page.locator("#inbox .entry", { hasText: customer });
}

async function write(field: Locator, text: string): Promise<void> {
  await field.fill(text);
  await field.press("Enter");
}

test("DEMO-7: operators see what a customer writes, and the customer the reply, in every window", async () => {
  const [ada, grace] = [await openChat("Ada"), await openChat("Grace")];
  await write(facebookIn(ada).getByLabel("Mia Torres writes"), "Is my order on its way?");
  for (const page of [ada, grace]) {
    await conversation(page, "Mia Torres").click();
    await page.locator("#messages .customer", { hasText: "Is my order on its way?" }).waitFor();
  }
  await write(ada.getByLabel("Reply"), "It arrives tomorrow.");
  for (const page of [ada, grace]) {
    const reply = page.locator("#messages .operator", { hasText: "It arrives tomorrow." });
    await reply.locator(".status", { hasText: "Delivered" }).waitFor();
    await facebookIn(page).locator(".phone li.page", { hasText: "It arrives tomorrow." }).waitFor();
    expect(await page.locator("#messages li").count()).toBe(2);
  }
  // A window that opens later shows the same.
  await grace.reload();
  await conversation(grace, "Mia Torres").click();
  await grace.locator("#messages .status", { hasText: "Delivered" }).waitFor();
  expect(await grace.locator("#messages li p").allTextContents()).toEqual(
    await ada.locator("#messages li p").allTextContents(),
  );
});

test("DEMO-7: each customer's conversation shows its own messages, the newest conversation first", async () => {
  const ada = await openChat("Ada");
  await write(facebookIn(ada).getByLabel("Kofi Mensah writes"), "Are you open today?");
  await conversation(ada, "Kofi Mensah").click();
  await ada.locator("#messages li", { hasText: "Are you open today?" }).waitFor();
  await write(facebookIn(ada).getByLabel("Yuki Tanaka writes"), "Do you ship to Norway?");
  await ada.locator("#inbox li:first-child .waiting", { hasText: "Yuki Tanaka" }).waitFor();
  expect(await ada.locator("#messages li p").allTextContents()).toEqual(["Are you open today?"]);
  await conversation(ada, "Yuki Tanaka").click();
  await ada.locator("#messages li", { hasText: "Do you ship to Norway?" }).waitFor();
  expect(await ada.locator("#messages li p").allTextContents()).toEqual(["Do you ship to Norway?"]);
  await conversation(ada, "Kofi Mensah").click();
  await ada.locator("#messages li", { hasText: "Are you open today?" }).waitFor();
  expect(await ada.locator("#messages li p").allTextContents()).toEqual(["Are you open today?"]);
});
