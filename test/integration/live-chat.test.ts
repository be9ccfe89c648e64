/** The live chat's rules, service and simulated Facebook, with a stock client as the operator's page. */
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { Webhook } from "standardwebhooks";
import { afterEach, beforeEach, expect, test } from "vitest";
import { parse } from "yaml";
import { Facebook } from "../../examples/live-chat/facebook/facebook.ts";
import { createFacebookServer, graphUrlOf } from "../../examples/live-chat/facebook/server.ts";
import { createChatService } from "../../examples/live-chat/service.ts";
import type { RulesDocument } from "../../shared/rules/schema.ts";
import { eventually } from "../support/eventually.ts";
import { type Fleet, serviceSecret, startFleet, tokens } from "../support/fleet.ts";
import { githubSigned, sendHook } from "../support/hook-sender.ts";
import { freePort } from "../support/processes.ts";
import { closeClients, connectClient, type StockClient } from "../support/stock-client.ts";

const pageId = "10210";
const customer = "24001";
const appSecret = "an app secret of the test";
const verifyToken = "a verify token of the test";
const pageToken = "a page token of the test";

let fleet: Fleet;
let facebook: Facebook;
let facebookServer: Server;
let service: Server;
let operator: StockClient;

beforeEach(async () => {
  facebook = new Facebook({ pageId, appSecret, verifyToken });
  facebookServer = await createFacebookServer(facebook, pageToken);
  await listen(facebookServer);
  const rules = parse(
    await readFile(new URL("../../examples/live-chat/rules.yaml", import.meta.url), "utf8"),
  ) as RulesDocument;
  // The service starts when the address of the private API is known.
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  fleet = await startFleet({
    rules: { ...rules, services: { chat: { ...rules.services?.["chat"], url } } },
    environment: { CHAT_SECRET: serviceSecret, MESSENGER_APP_SECRET: appSecret, MESSENGER_VERIFY_TOKEN: verifyToken },
  });
  await startService(port);
  await facebook.subscribe(`${fleet.urls[0]}/hooks/messenger`);
  operator = await connectClient(fleet.urls[0] ?? "", { tenant: pageId, channels: [`inbox:${pageId}`, "chat:*"] });
  await operator.subscribe(`inbox:${pageId}`);
  await operator.subscribe(`chat:${customer}`);
});
afterEach(async () => {
  closeClients();
  await close(facebookServer);
  await close(service);
  await fleet.stop();
});

async function listen(server: Server, port = 0): Promise<string> {
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  return urlOf(server);
}

function urlOf(server: Server): string {
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function close(server: Server): Promise<void> {
  if (!server.listening) return;
  server.closeAllConnections();
  server.close();
  await once(server, "close");
}

async function startService(port: number): Promise<void> {
  service = createChatService({
    secret: serviceSecret,
    privateApiUrl: fleet.apiUrl,
    publishToken: tokens.service,
    graphUrl: graphUrlOf(urlOf(facebookServer)),
    pageToken,
  });
  await listen(service, port);
}

/** @returns the port, for its successor */
async function stopService(): Promise<number> {
  const { port } = service.address() as AddressInfo;
  await close(service);
  return port;
}

interface Shown {
  event: string;
  data: { text?: string; from?: string; id?: string; mid?: string; mids?: string[] };
}

/** What the conversation's channel keeps. */
async function history(): Promise<Shown[]> {
  const { body } = await fleet.api("GET", `/v1/channels/chat:${customer}/history`);
  return body["publications"] as Shown[];
}

function said(shown: readonly Shown[]): string[] {
  return shown.flatMap(({ event, data }) => (event === "message" ? `${data.from}: ${data.text}` : []));
}

function chatWith(id: string): string[] {
  return (
    facebook.customers.find((known) => known.id === id)?.messages.map(({ from, text }) => `${from}: ${text}`) ?? []
  );
}

async function reply(text: string, id = text): Promise<void> {
  const answer = await operator.request("reply", { customer, text, draft: id }, { id });
  expect(answer).toMatchObject({ ok: true, queued: true });
}

async function queuesAreEmpty(): Promise<boolean> {
  const { body } = await fleet.api("GET", "/v1/queues");
  const classes = body["classes"] as { waiting: number; inFlight: number }[];
  return classes.every(({ waiting, inFlight }) => waiting === 0 && inFlight === 0);
}

/** The service's event, as the private API sends it. */
async function sendEvent(event: string, data: object, headers: Record<string, string>): Promise<number> {
  const body = JSON.stringify(data);
  const at = new Date();
  const id = headers["ce-id"] ?? "";
  const response = await fetch(`${urlOf(service)}/events/${event}`, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      "ce-tenant": pageId,
      "ce-subject": "ada",
      "webhook-id": id,
      "webhook-timestamp": String(Math.floor(at.getTime() / 1_000)),
      "webhook-signature": new Webhook(serviceSecret).sign(id, at, body),
      ...headers,
    },
    body,
  });
  return response.status;
}

test("DEMO-7: a customer's message reaches the operator, and the reply the customer, as delivered", async () => {
  facebook.write(customer, "Is my order on its way?");
  facebook.write("24002", "Are you open today?");
  const { data: first } = await operator.next(({ event }) => event === "message");
  expect(first).toMatchObject({ from: "customer", by: "Mia Torres", text: "Is my order on its way?" });
  const conversations = ["Mia Torres", "Kofi Mensah"].map((name) =>
    operator.next(({ event, data }) => event === "conversation" && (data as { name: string }).name === name),
  );
  expect(await Promise.all(conversations)).toMatchObject([
    { data: { customer, text: "Is my order on its way?" } },
    { data: { customer: "24002", text: "Are you open today?" } },
  ]);

  await reply("It arrives tomorrow.");
  const { data: sent } = await operator.next(({ event }) => event === "sent");
  const { data: delivered } = await operator.next(({ event }) => event === "delivered");
  expect(delivered).toEqual({ mids: [(sent as { mid: string }).mid] });
  expect(chatWith(customer)).toEqual(["customer: Is my order on its way?", "page: It arrives tomorrow."]);
  // The operator may see a receipt before Facebook has the answer to its webhook.
  await eventually(() => facebook.webhooks.waiting === 0);
  expect(facebook.webhooks.failed).toBe(0);
});

test("DEMO-8: what is written while the service is away is accepted, and shown once, in order", async () => {
  const port = await stopService();
  for (const text of ["one", "two", "three"]) facebook.write(customer, text);
  await eventually(() => facebook.webhooks.waiting === 0);
  await reply("four");
  expect(facebook.webhooks.failed).toBe(0);
  expect(await history()).toEqual([]);

  await startService(port);
  await operator.next(({ event }) => event === "delivered");
  const shown = await history();
  expect(said(shown)).toEqual(["customer: one", "customer: two", "customer: three", "operator: four"]);
  expect(chatWith(customer).at(-1)).toBe("page: four");
  const second = await connectClient(fleet.urls[0] ?? "", { tenant: pageId, channels: ["chat:*"] });
  await second.subscribe(`chat:${customer}`);
  expect(await second.request("sync:history", { channel: `chat:${customer}` })).toMatchObject({ publications: shown });
});

test("DEMO-8: a repeated webhook and a repeated reply take effect once, also after a restart", async () => {
  const text = "Do you ship to Norway?";
  const messaging = [
    { sender: { id: customer }, recipient: { id: pageId }, timestamp: 1, message: { mid: "m1", text } },
  ];
  const body = JSON.stringify({ object: "page", entry: [{ id: pageId, time: 1, messaging }] });
  const replyEvent = { customer, text: "We do.", draft: "d1" };
  const fromClient = { "ce-id": "reply-1", "ce-source": "/tidegate/socket" };
  for (let tries = 0; tries < 2; tries++) {
    const hook = { body, headers: githubSigned(appSecret, body) };
    expect((await sendHook(fleet.urls[0] ?? "", "messenger", hook)).status).toBe(200);
    await eventually(queuesAreEmpty);
    expect(await sendEvent("reply", replyEvent, fromClient)).toBe(204);
    await startService(await stopService());
  }
  expect(said(await history())).toEqual([`customer: ${text}`, "operator: We do."]);
  expect(chatWith(customer)).toEqual(["page: We do."]);
});

test("DEMO-8: a reply that Facebook refuses is shown as failed, and a client's event is no webhook", async () => {
  const fromClient = { "ce-id": "reply-2", "ce-source": "/tidegate/socket" };
  expect(await sendEvent("reply", { customer: "99", text: "Hello", draft: "d2" }, fromClient)).toBe(204);
  const { body } = await fleet.api("GET", "/v1/channels/chat:99/history");
  expect(body["publications"]).toMatchObject([
    { event: "message" },
    { event: "failed", data: { id: "reply-2", reason: "No matching user found" } },
  ]);
  expect(await sendEvent("messenger", { sender: { id: customer } }, fromClient)).toBe(404);
  expect(await sendEvent("reply", { customer, text: "Hi", draft: "d" }, { ...fromClient, "webhook-id": "x" })).toBe(
    401,
  );
});
