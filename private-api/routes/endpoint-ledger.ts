import { Readable } from "node:stream";
import type { FastifyInstance } from "fastify";
import { type Static, Type } from "typebox";
import { TidegateError } from "../../shared/runtime/errors.ts";
import { readEndpoint } from "../endpoints/change-endpoint.ts";
import type { EndpointPath } from "../endpoints/endpoint-form.ts";
import type { LedgerLine } from "../endpoints/ledger.ts";
import type { PrivateApiContext } from "../node/context.ts";
import { endpointCall } from "./endpoint-call.ts";

const maxSentSeconds = 86_400;

const Query = Type.Object(
  {
    limit: Type.Optional(
      Type.Integer({ minimum: 1, maximum: 1_000, description: "Changes of a page; all of them without it" }),
    ),
    after: Type.Optional(
      Type.String({
        pattern: "^(1?\\d?\\d|2[0-4]\\d|25[0-5]):\\d{1,16}-\\d{1,16}$",
        description: "`next` of the page before: its last line is `{ next }` where there is a further page",
      }),
    ),
    sentSeconds: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: maxSentSeconds,
        description:
          "Of a shadow that was live: what it was sent of that which was published so long before `sentUntil` of its position, or later",
      }),
    ),
  },
  { additionalProperties: false },
);

/** `GET /v1/endpoints/{id}/ledger?limit&after&sentSeconds` → NDJSON of what is sent, or in shadow mode would be, as far as the log has it. */
export function addEndpointLedger(app: FastifyInstance, { endpoints }: PrivateApiContext): void {
  app.get<{ Params: EndpointPath; Querystring: Static<typeof Query> }>(
    "/v1/endpoints/:id/ledger",
    endpointCall("What an endpoint gets, line by line", {
      description:
        "In order per channel. A line `{ gap: { from, to } }` stands for changes that the log no longer has.",
      querystring: Query,
      produces: ["application/x-ndjson"],
    }),
    async ({ params: { id }, query: { limit = Infinity, after, sentSeconds } }, reply) => {
      const stored = await readEndpoint(endpoints.store, id);
      if (sentSeconds !== undefined && stored.endpoint.mode !== "shadow") {
        throw new TidegateError("conflict", "sentSeconds: the endpoint is no shadow");
      }
      const lines = endpoints.ledger(stored, {
        ...(after !== undefined && { after }),
        ...(sentSeconds !== undefined && { sentMs: sentSeconds * 1_000 }),
      });
      return reply.type("application/x-ndjson").send(Readable.from(page(lines, limit)));
    },
  );
}

/** It ends with a change: gaps count nothing, because no place names what follows one. */
async function* page(lines: AsyncIterable<LedgerLine>, limit: number): AsyncGenerator<string> {
  let left = limit;
  let last: string | undefined;
  for await (const { text, next } of lines) {
    if (left === 0) {
      yield `${JSON.stringify({ next: last })}\n`;
      return;
    }
    yield text;
    if (next === undefined) continue;
    left--;
    last = next;
  }
}
