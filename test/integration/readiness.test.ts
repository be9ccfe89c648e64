/** When a gateway is ready, and what it does before. */
import { afterEach, expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { type Fleet, startFleet } from "../support/fleet.ts";
import { linesWith } from "../support/log-lines.ts";
import { freePort } from "../support/processes.ts";
import { closeClients, connectClient, refusedConnect, userToken } from "../support/stock-client.ts";

let fleet: Fleet;
afterEach(async () => {
  closeClients();
  await fleet.stop();
});

interface Readiness {
  status: number;
  checks: Record<string, string>;
  refusals?: string[];
}

async function readiness(): Promise<Readiness> {
  const answer = await fetch(`http://127.0.0.1:${fleet.gateways[0]?.adminDoor.port}/readyz`);
  return { ...((await answer.json()) as object), status: answer.status } as Readiness;
}

test("OPS-4: a gateway is ready once it knows that there are no rules, also while its private API is away", async () => {
  fleet = await startFleet({});
  await eventually(async () => (await readiness()).status === 200);
  expect((await readiness()).checks).toMatchObject({ rules: "ok", privateApi: "ok" });
  await fleet.privateApi.stop();
  await eventually(async () => (await readiness()).checks["privateApi"] === "degraded");
  expect((await readiness()).status).toBe(200);
});

test("OPS-4: a gateway that knows rules is ready, though it never reached a private API", async () => {
  const PRIVATE_API_URL = `http://127.0.0.1:${await freePort()}`;
  fleet = await startFleet({ rules: {}, gatewaySettings: [{ PRIVATE_API_URL }] });
  expect(await readiness()).toMatchObject({ status: 200, checks: { rules: "ok", privateApi: "degraded" } });
  expect(linesWith(fleet.log(), "private API out of reach")).toHaveLength(1);
});

test("OPS-5: a gateway whose token is refused is not ready, and says so", async () => {
  fleet = await startFleet({ rules: {}, gatewaySettings: [{ PRIVATE_API_TOKEN: "not-the-relay-token" }] });
  const { status, checks, refusals } = await readiness();
  expect([status, checks["privateApi"]]).toEqual([503, "fail"]);
  expect(refusals).toEqual([expect.stringContaining("refuses PRIVATE_API_TOKEN (401)")]);
  const [line] = linesWith(fleet.log(), "private API refuses this gateway");
  expect(line).toMatchObject({ status: 401, advice: expect.stringContaining("scope relay") as string });
  expect(fleet.log()).not.toContain("not-the-relay-token");
});

test("OPS-6: a node that knows neither rules nor a private API admits no new session", async () => {
  const PRIVATE_API_URL = `http://127.0.0.1:${await freePort()}`;
  fleet = await startFleet({ gatewaySettings: [{ PRIVATE_API_URL }] });
  expect(await readiness()).toMatchObject({ status: 503, checks: { rules: "fail" } });
  const refusal = await refusedConnect(fleet.urls[0] ?? "", { token: await userToken() });
  expect(refusal).toMatchObject({ code: "auth_unavailable", retryable: true });
  await fleet.api("PUT", "/v1/rules", {});
  await eventually(async () => (await readiness()).checks["rules"] === "ok");
  const client = await connectClient(fleet.urls[0] ?? "");
  expect((await client.request("ask", {})).error).toMatchObject({ code: "no_route", retryable: false });
});

test("OPS-6: without rules a call's no_route is retryable", async () => {
  fleet = await startFleet({});
  const client = await connectClient(fleet.urls[0] ?? "");
  expect((await client.request("ask", {})).error).toMatchObject({ code: "no_route", retryable: true });
});

test("SET-11: the admin door listens on its own address", async () => {
  // Not a port of the system's choice: on the other address another process may have it.
  const port = await freePort();
  fleet = await startFleet({ environment: { GATEWAY_ADMIN_HOST: "127.0.0.2", GATEWAY_ADMIN_PORT: String(port) } });
  expect((await fetch(`http://127.0.0.2:${port}/livez`)).status).toBe(200);
  await expect(fetch(`http://127.0.0.1:${port}/livez`)).rejects.toThrow("fetch failed");
});
