/**
 * An ordinary service on PostgreSQL: it serves its page, answers JSON, and writes its tables. It knows nothing of websockets, and publishes nothing over
 * HTTP: it writes a row of the log in each of its transactions, and Tidegate reads it. Two more things concern Tidegate: a token for each user, which
 * says whose changes it may see, and an endpoint for each webhook of a customer.
 *
 * For a demo: every caller may use every account.
 */
import { fileURLToPath } from "node:url";
import fastifyStatic from "@fastify/static";
import { fastify, type FastifyInstance } from "fastify";
import { SignJWT } from "jose";
import { Refusal } from "../shared/failures.ts";
import { type Deal, type Deals, stages } from "./deals.ts";

export interface CrmOptions {
  deals: Deals;
  /** Where pages connect. */
  gatewayUrl: () => string;
  /** Signs the tokens of users: the gateways have the same. */
  jwtSecret: string;
  privateApiUrl: string;
  /** Of the private API, with the scope `endpoints`. */
  apiToken: string;
}

interface OfAccount {
  Params: { account: string };
}

const tokenLifetime = "8h";
const apiWithinMs = 5_000;
const amount = { type: "integer", minimum: 1, maximum: 1_000_000 };
const id = { type: "integer", minimum: 1, maximum: 2 ** 31 - 1 };
const params = { type: "object", properties: { account: { type: "string", pattern: "^[a-z]{1,32}$" }, id } };

/** The caller listens and closes it. */
export function createCrm(options: CrmOptions): FastifyInstance {
  const app = fastify();
  app.setErrorHandler((error: Error & { statusCode?: number }, _request, reply) => {
    if (error instanceof Refusal) return reply.code(error.status).send({ code: error.code, message: error.message });
    if (error.statusCode === undefined) process.stderr.write(`crm service: ${error.stack ?? error.message}\n`);
    return reply.code(error.statusCode ?? 500).send({ code: "failed", message: error.message });
  });
  addPage(app);
  addDeals(app, options.deals);
  addSession(app, options);
  addWebhooks(app, options);
  return app;
}

function addPage(app: FastifyInstance): void {
  const folder = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
  app.register(fastifyStatic, { root: [folder("page"), folder("../shared/page")] });
  app.get("/tidegate.js", (_request, reply) => reply.sendFile("browser.js", folder("../../client/dist")));
}

function addDeals(app: FastifyInstance, deals: Deals): void {
  app.get<OfAccount>("/api/accounts/:account/deals", { schema: { params } }, async ({ params: { account } }) =>
    deals.of(account),
  );
  const name = { type: "string", minLength: 1, maxLength: 100 };
  app.post<OfAccount & { Body: Pick<Deal, "name" | "amount"> }>(
    "/api/accounts/:account/deals",
    { schema: { params, body: { type: "object", required: ["name", "amount"], properties: { name, amount } } } },
    async (request, reply) => reply.code(201).send(await deals.add(request.params.account, request.body)),
  );
  app.patch<{ Params: { account: string; id: number }; Body: Pick<Deal, "stage"> }>(
    "/api/accounts/:account/deals/:id",
    { schema: { params, body: { type: "object", required: ["stage"], properties: { stage: { enum: stages } } } } },
    async (request) => deals.move(request.params.account, request.params.id, request.body.stage),
  );
  const transfer = { type: "object", required: ["from", "to", "amount"], properties: { from: id, to: id, amount } };
  app.post<OfAccount & { Body: { from: number; to: number; amount: number } }>(
    "/api/accounts/:account/transfers",
    { schema: { params, body: transfer } },
    async (request, reply) => {
      await deals.transfer(request.params.account, request.body);
      return reply.code(204).send();
    },
  );
}

function addSession(app: FastifyInstance, { jwtSecret, gatewayUrl }: CrmOptions): void {
  const user = { type: "string", minLength: 1, maxLength: 64 };
  app.get<OfAccount & { Querystring: { user: string } }>(
    "/api/accounts/:account/session",
    { schema: { params, querystring: { type: "object", required: ["user"], properties: { user } } } },
    async (request) => {
      const token = await new SignJWT({ channels: [`account:${request.params.account}`] })
        .setProtectedHeader({ alg: "HS256" })
        .setSubject(request.query.user)
        .setIssuedAt()
        .setExpirationTime(tokenLifetime)
        .sign(new TextEncoder().encode(jwtSecret));
      return { gateway: gatewayUrl(), token };
    },
  );
}

/** A customer's webhook is an endpoint that wants the changes of its account, those of one deal in order. */
function addWebhooks(app: FastifyInstance, { privateApiUrl, apiToken }: CrmOptions): void {
  const url = { type: "string", format: "uri", maxLength: 2_000 };
  app.post<OfAccount & { Body: { url: string } }>(
    "/api/accounts/:account/webhooks",
    { schema: { params, body: { type: "object", required: ["url"], properties: { url } } } },
    async (request, reply) => {
      const endpoint = { url: request.body.url, channels: [`account:${request.params.account}`], key: "/id" };
      const answer = await fetch(`${privateApiUrl}/v1/endpoints`, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: `Bearer ${apiToken}` },
        body: JSON.stringify(endpoint),
        signal: AbortSignal.timeout(apiWithinMs),
      });
      const body = (await answer.json()) as { id: string; secrets: string[]; message?: string };
      if (answer.status !== 201) throw new Refusal(400, "not_created", body.message ?? "the webhook was refused");
      return reply.code(201).send({ id: body.id, secret: body.secrets[0] });
    },
  );
}
