/**
 * Runs the CRM in one process, until SIGTERM or SIGINT: a service on PostgreSQL, its page, and a customer's server that gets webhooks.
 *
 *   npm run crm
 *
 * Settings come from the environment (docs/settings.md); DATABASE_URL, CRM_PORT and CUSTOMER_PORT are the example's. Without DATABASE_URL
 * it starts a PostgreSQL of its own.
 */
import { readArguments } from "../../shared/runtime/command-line.ts";
import { port } from "../../shared/runtime/setting-kinds.ts";
import { orExit, readSettings } from "../../shared/runtime/settings.ts";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import { type DemoDoors, newSecret, runDemo } from "../shared/demo.ts";
import { createCustomer } from "./customer/customer.ts";
import { Deals } from "./deals.ts";
import { createCrm } from "./service.ts";

readArguments({});
const account = "aurora";
const ports = orExit(() => readSettings({ CRM_PORT: port(8083), CUSTOMER_PORT: port(8084) }, process.env));
const { AUTH_JWT_SECRET: jwtSecret = newSecret() } = process.env;
const database = await openDatabase();
let gatewayUrl = "";
let [crmUrl, customerUrl] = ["", ""];
let webhookSecret: string | undefined;

await runDemo({
  folder: new URL(".", import.meta.url),
  hasOwnPage: true,
  environment: {
    AUTH_JWT_SECRET: jwtSecret,
    CRM_URL: database.url,
    // The customer's server is on this machine.
    ENDPOINT_ALLOWED_NETWORKS: "127.0.0.0/8",
    ...process.env,
  },
  ports,
  claims: {},
  beneath: { database: database.service },
  begin: async ({ privateApiUrl, publishToken, listen }) => {
    const { deals } = database;
    await deals.prepare();
    if ((await deals.of(account)).length === 0) await deals.add(account, { name: "Lighthouse", amount: 2_400 });
    const customer = createCustomer(() => webhookSecret);
    await customer.ready();
    customerUrl = await listen("customer's server", customer.server, ports.CUSTOMER_PORT);
    // Gateways may have several secrets while they are rotated; the first one signs.
    const [signing = jwtSecret] = jwtSecret.split(",");
    const crm = createCrm({
      ...{ deals, privateApiUrl, apiToken: publishToken, gatewayUrl: () => gatewayUrl, jwtSecret: signing },
    });
    crm.get("/demo/customer", (_request, reply) => reply.redirect(customerUrl));
    await crm.ready();
    crmUrl = await listen("CRM", crm.server, ports.CRM_PORT);
    return {};
  },
  opened: async (doors) => {
    gatewayUrl = doors.publicUrl;
    const hooksUrl = `${customerUrl}/hooks`;
    await deleteEndpointsTo(hooksUrl, doors);
    const answer = await fetch(`${crmUrl}/api/accounts/${account}/webhooks`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ url: hooksUrl }),
    });
    ({ secret: webhookSecret } = (await answer.json()) as { secret?: string });
    return whatToTry(doors);
  },
});

/** Redis keeps those of earlier starts, and the customer no longer has their secrets: it would refuse each of their webhooks. */
async function deleteEndpointsTo(url: string, { privateApiUrl, publishToken }: DemoDoors): Promise<void> {
  const headers = { authorization: `Bearer ${publishToken}` };
  const answer = await fetch(`${privateApiUrl}/v1/endpoints?limit=200`, { headers });
  const { items } = (await answer.json()) as { items: { id: string; url: string }[] };
  for (const { id } of items.filter((each) => each.url === url)) {
    await fetch(`${privateApiUrl}/v1/endpoints/${id}`, { method: "DELETE", headers });
  }
}

/** `DATABASE_URL`, or a server of its own in a temporary folder. */
async function openDatabase(): Promise<{ url: string; shownUrl: string; deals: Deals; service: Service }> {
  const { DATABASE_URL: given } = process.env;
  const own = given === undefined ? await startOwn() : undefined;
  const url = given ?? own?.url ?? "";
  const deals = new Deals(url, (error) => void process.stderr.write(`database: ${error.message}\n`));
  const stop = async (): Promise<void> => {
    await deals.close();
    await own?.stop();
  };
  // A URL of the user's may have a password.
  const shownUrl = own?.url ?? "$DATABASE_URL";
  return { url, shownUrl, deals, service: { start: async () => undefined, stop } };
}

async function startOwn(): Promise<{ url: string; stop(): Promise<void> }> {
  const { startPostgres } = await import("../../test/support/postgres.ts");
  try {
    return await startPostgres();
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\nOr name a database of yours: DATABASE_URL=postgres://…\n`);
    return process.exit(1);
  }
}

function whatToTry({ privateApiUrl }: DemoDoors): string {
  return `
The CRM is running.

  Open ${crmUrl} in two windows and add a deal. On the right is a customer's server, which gets it as a webhook.
  Move more than a deal has: the transaction is rolled back, and nothing of it shows anywhere.

  The database is ${database.shownUrl}. Write to it as the service does, and watch the page:
    psql ${database.shownUrl} -c "BEGIN; UPDATE deals SET amount = amount + 1, version = version + 1 WHERE id = 1;
      SELECT tidegate_log(account_id, 'deal', id::text, 'updated', to_jsonb(deals) || jsonb_build_object('account', account_id)) FROM deals WHERE id = 1; COMMIT"

  The private API describes itself at ${privateApiUrl}/openapi.json
  Stop with Ctrl-C.
`;
}
