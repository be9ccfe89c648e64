/** The simulator's HTTP door: Facebook's Graph API for the service, and a page on which the customers write. */
import type { Server } from "node:http";
import { fileURLToPath } from "node:url";
import fastifyStatic from "@fastify/static";
import { fastify, type FastifyInstance, type FastifyReply } from "fastify";
import type { Facebook } from "./facebook.ts";

/** The version of the Graph API, the first segment of its paths. */
const version = "v23.0";
const maxTextLength = 2_000;
const maxWindows = 20;

/**
 * The caller listens at the result's server and closes it; that stops the simulator.
 * @param pageToken calls of the Graph API carry it
 */
export async function createFacebookServer(facebook: Facebook, pageToken: string): Promise<Server> {
  const app = fastify();
  addGraphApi(app, facebook, pageToken);
  addCustomersPage(app, facebook);
  await app.ready();
  app.server.once("close", () => facebook.stop());
  return app.server;
}

/** @param url of the simulator */
export function graphUrlOf(url: string): string {
  return `${url}/${version}`;
}

function addGraphApi(app: FastifyInstance, facebook: Facebook, pageToken: string): void {
  const isAllowed = (authorization: string | undefined, reply: FastifyReply): boolean => {
    if (authorization === `Bearer ${pageToken}`) return true;
    refuse(reply, 401, "Invalid OAuth access token");
    return false;
  };
  app.post<{ Body: { recipient?: { id?: string }; message?: { text?: string } } }>(
    `/${version}/me/messages`,
    (request, reply) => {
      if (!isAllowed(request.headers.authorization, reply)) return;
      const { id = "" } = request.body.recipient ?? {};
      const { text = "" } = request.body.message ?? {};
      if (text === "" || text.length > maxTextLength) return refuse(reply, 400, "Invalid text");
      const mid = facebook.send(id, text);
      if (mid === undefined) return refuse(reply, 400, "No matching user found");
      reply.send({ recipient_id: id, message_id: mid });
    },
  );
  app.get<{ Params: { id: string } }>(`/${version}/:id`, (request, reply) => {
    if (!isAllowed(request.headers.authorization, reply)) return;
    const customer = facebook.customers.find(({ id }) => id === request.params.id);
    if (!customer) return refuse(reply, 400, "No matching user found");
    reply.send({ id: customer.id, name: customer.name });
  });
}

function addCustomersPage(app: FastifyInstance, facebook: Facebook): void {
  app.register(fastifyStatic, { root: fileURLToPath(new URL("page", import.meta.url)) });
  const text = { type: "string", minLength: 1, maxLength: maxTextLength };
  const schema = { body: { type: "object", required: ["text"], properties: { text } } };
  app.post<{ Params: { id: string }; Body: { text: string } }>(
    "/customers/:id/messages",
    { schema },
    (request, reply) => {
      if (!facebook.write(request.params.id, request.body.text)) return refuse(reply, 409, "Not accepted");
      reply.code(204).send();
    },
  );
  let windows = 0;
  facebook.setMaxListeners(maxWindows);
  app.get("/events", (_request, reply) => {
    if (windows >= maxWindows) return refuse(reply, 429, "Too many windows");
    windows++;
    reply.hijack();
    const { raw } = reply;
    raw.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
    const show = (): void => {
      // A slow window gets the next state.
      if (raw.writableNeedDrain) return;
      const { customers, webhooks } = facebook;
      raw.write(`data: ${JSON.stringify({ customers, webhooks })}\n\n`);
    };
    facebook.on("change", show);
    raw.once("close", () => {
      windows--;
      facebook.off("change", show);
    });
    show();
  });
}

/** As the Graph API refuses. */
function refuse(reply: FastifyReply, status: number, message: string): void {
  reply.code(status).send({ error: { message } });
}
