/** The CRM of `npm run crm`: one row, written in the service's own transaction, reaches pages and webhooks. */
import { Webhook } from "standardwebhooks";
import type { Browser, Locator, Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { launchChromium } from "../support/chromium.ts";
import { eventually } from "../support/eventually.ts";
import { type HttpService, startService } from "../support/http-service.ts";
import { connectPostgres } from "../support/postgres.ts";
import { type Spawned, spawnProcess } from "../support/processes.ts";

const account = "aurora";
let demo: Spawned;
let browser: Browser;
let url: string;
let databaseUrl: string;

beforeAll(async () => {
  const ports = ["GATEWAY_PORT", "GATEWAY_ADMIN_PORT", "PRIVATE_API_PORT", "CRM_PORT", "CUSTOMER_PORT"];
  demo = spawnProcess(process.execPath, ["examples/crm/start.ts"], {
    env: { DATABASE_URL: undefined, ...Object.fromEntries(ports.map((name) => [name, "0"])) },
  });
  url = /http:\S+/.exec(await demo.printed("in two windows"))?.[0] ?? "";
  databaseUrl = /postgres:\S+(?=\.)/.exec(await demo.printed("The database is"))?.[0] ?? "";
  browser = await launchChromium();
});
afterAll(async () => {
  await browser.close();
  demo.kill("SIGTERM");
  await demo.exited;
});

async function openCrm(name: string, ofAccount = account): Promise<Page> {
  const page = await (await browser.newContext()).newPage();
  await page.goto(`${url}/?name=${name}&account=${ofAccount}`);
  await page.locator('#state[data-status="connected"]').waitFor();
  return page;
}

function deal(page: Page, name: string, amount: string): Locator {
  return page.locator(`tr[data-deal="${name}"]`, { hasText: amount });
}

interface Change {
  type: string;
  data: { id: number; name: string; amount: number; version: number };
}

/** What an endpoint of the account gets, checked by the library of Standard Webhooks. */
async function startEndpoint(): Promise<{ service: HttpService; changes: Change[]; refused: () => number }> {
  const changes: Change[] = [];
  let [secret, refused] = ["", 0];
  const service = await startService();
  service.answer = ({ body, headers }, response) => {
    try {
      changes.push(new Webhook(secret).verify(body, headers as Record<string, string>) as Change);
      response.writeHead(204).end();
    } catch {
      refused++;
      response.writeHead(401).end();
    }
  };
  const answer = await post("/webhooks", { url: service.url });
  ({ secret } = (await answer.json()) as { secret: string });
  return { service, changes, refused: () => refused };
}

async function post(path: string, body: object): Promise<Response> {
  return fetch(`${url}/api/accounts/${account}${path}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
}

test("DEMO-9: a row of the service's own transaction reaches each window and the customer's server", async () => {
  const [ada, grace, other] = [await openCrm("Ada"), await openCrm("Grace"), await openCrm("Other", "basalt")];
  await ada.getByLabel("New deal").fill("Harbour");
  await ada.getByLabel("New deal").press("Enter");
  for (const page of [ada, grace]) {
    await deal(page, "Harbour", "1,000").waitFor();
    const received = page.frameLocator("iframe").locator("li", { hasText: '"name":"Harbour"' });
    await received.locator("strong", { hasText: "deal.created" }).waitFor();
  }
  await grace.getByLabel("Stage of Harbour").selectOption("offer");
  await eventually(async () => (await ada.getByLabel("Stage of Harbour").inputValue()) === "offer");
  // A token names the channels of its account.
  expect(await other.locator("#deals tr").count()).toBe(0);
});

test("DEMO-9: a row that is written by hand shows too, and a transaction that is rolled back nowhere", async () => {
  const ada = await openCrm("Ada");
  const { service, changes, refused } = await startEndpoint();
  const [quay, mole] = await Promise.all(
    ["Quay", "Mole"].map(
      async (name) => (await post("/deals", { name, amount: 500 })).json() as Promise<{ id: number }>,
    ),
  );
  await deal(ada, "Quay", "500").waitFor();
  await deal(ada, "Mole", "500").waitFor();
  // It adds to one deal, and writes its row of the log, before it finds that the other has not enough.
  expect((await post("/transfers", { from: quay?.id, to: mole?.id, amount: 501 })).status).toBe(409);
  const database = await connectPostgres(databaseUrl);
  await database.query("BEGIN");
  await database.query("UPDATE deals SET amount = 512, version = version + 1 WHERE id = $1", [mole?.id]);
  await database.query(
    `SELECT tidegate_log(account_id, 'deal', id::text, 'updated', to_jsonb(deals) || jsonb_build_object('account', account_id))
     FROM deals WHERE id = $1`,
    [mole?.id],
  );
  await database.query("COMMIT");
  await database.end();
  await deal(ada, "Mole", "512").waitFor();
  const ofMole = (): Change["data"][] => changes.map(({ data }) => data).filter(({ name }) => name === "Mole");
  await eventually(() => ofMole().some(({ amount }) => amount === 512));
  // Changes of a deal come in order: nothing came between.
  expect(ofMole().map(({ amount, version }) => [amount, version])).toEqual([
    [500, 1],
    [512, 2],
  ]);
  expect(refused()).toBe(0);
  await deal(ada, "Quay", "500").waitFor();
  await service.stop();
});
