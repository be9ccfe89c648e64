/** A customer's server: it takes the webhooks of the CRM, checks their signatures, and shows them on a page. */
import { fileURLToPath } from "node:url";
import fastifyStatic from "@fastify/static";
import { fastify, type FastifyInstance } from "fastify";
import { isSigned } from "../../shared/webhook-signature.ts";

interface Received {
  id: string;
  type: string;
  data: unknown;
  /** Unix ms. */
  at: number;
}

const maxShown = 30;

/**
 * The caller listens and closes it.
 * @param secret that the CRM gave; undefined until then
 */
export function createCustomer(secret: () => string | undefined): FastifyInstance {
  const app = fastify();
  const received: Received[] = [];
  app.register(fastifyStatic, { root: fileURLToPath(new URL("page", import.meta.url)) });
  // The signature is over the body as it came.
  app.addContentTypeParser("application/json", { parseAs: "string" }, (_request, body, done) => done(null, body));
  app.post<{ Body: string }>("/hooks", async ({ headers, body }, reply) => {
    const known = secret();
    if (known === undefined || !isSigned(headers, body, known)) return reply.code(401).send();
    const id = String(headers["webhook-id"]);
    if (!received.some((each) => each.id === id)) {
      const { type, data } = JSON.parse(body) as { type: string; data: unknown };
      received.unshift({ id, type, data, at: Date.now() });
      received.length = Math.min(received.length, maxShown);
    }
    return reply.code(204).send();
  });
  app.get("/received", async () => received);
  return app;
}
