import type { FastifyInstance } from "fastify";
import { Type } from "typebox";
import { TidegateError } from "../../shared/runtime/errors.ts";
import { bodyText, type DataBody, readDataBody } from "../../shared/http/body.ts";
import { splitJsonArray } from "../../shared/json/json.ts";
import { Turns } from "../../shared/runtime/timing.ts";
import { maxBatchBytes, maxBatchItems } from "../../shared/protocol/limits.ts";
import type { PrivateApiContext } from "../node/context.ts";
import { type PublishAnswer, publishItem } from "./publish.ts";

const ndjson = "application/x-ndjson";
type BatchAnswer = PublishAnswer | { error: { code: string; message: string; retryable: boolean } };

/** `POST /v1/publish/batch` a JSON array or NDJSON → answers in the same format and order: a position, or the item's own error. */
export function addPublishBatch(app: FastifyInstance, context: PrivateApiContext): void {
  app.register(async (scope) => {
    scope.removeContentTypeParser("application/json");
    scope.addContentTypeParser("application/json", { parseAs: "buffer" }, (_request, body, done) => {
      const items = splitJsonArray(bodyText(body as Buffer), maxBatchItems);
      done(items ? null : new TidegateError("invalid_request", "the body is no JSON array"), items);
    });
    scope.addContentTypeParser(ndjson, { parseAs: "buffer" }, (_request, body, done) => {
      done(null, splitLines(bodyText(body as Buffer), maxBatchItems));
    });
    scope.post(
      "/v1/publish/batch",
      {
        bodyLimit: maxBatchBytes,
        config: { access: "publish" },
        schema: {
          summary: `Publish up to ${maxBatchItems} items, each on its own`,
          tags: ["publish"],
          consumes: ["application/json", ndjson],
          body: Type.Array(Type.Unknown()),
        },
      },
      async (request, reply) => {
        const texts = request.body as string[];
        if (texts.length > maxBatchItems) {
          throw new TidegateError("payload_too_large", `a batch has at most ${maxBatchItems} items`);
        }
        const isNdjson = request.headers["content-type"]?.toLowerCase().startsWith(ndjson) ?? false;
        const items = await readItems(texts);
        // In NDJSON an invalid line fails alone; an array with invalid JSON fails as a whole.
        for (const [at, item] of isNdjson ? [] : items.entries()) {
          if (item.kind === "not_json") throw itemNotJson(item.errorAt, `item ${at + 1}: `);
        }
        const answers = await publishInOrder(items, context);
        if (!isNdjson) return answers;
        return reply.type(ndjson).send(answers.map((answer) => `${JSON.stringify(answer)}\n`).join(""));
      },
    );
  });
}

/** @returns lines that are not blank; `max + 1` of them where there are more than `max`. */
function splitLines(text: string, max: number): string[] {
  const lines: string[] = [];
  for (let from = 0; from < text.length && lines.length <= max;) {
    const end = text.indexOf("\n", from);
    const line = text.slice(from, end < 0 ? text.length : end);
    if (line.trim() !== "") lines.push(line);
    from = end < 0 ? text.length : end + 1;
  }
  return lines;
}

async function readItems(texts: readonly string[]): Promise<DataBody[]> {
  const turns = new Turns();
  const items: DataBody[] = [];
  for (const text of texts) {
    items.push(readDataBody(Buffer.from(text)));
    await turns.pause();
  }
  return items;
}

/** Passes the items to the broker one after the other, then awaits all answers together. */
async function publishInOrder(items: readonly DataBody[], context: PrivateApiContext): Promise<BatchAnswer[]> {
  const turns = new Turns();
  const answers: Promise<BatchAnswer>[] = [];
  for (const item of items) {
    answers.push(publishOne(item, context));
    await turns.pause();
  }
  return Promise.all(answers);
}

/** Never rejects: its promise is not awaited before every item has been passed on. */
async function publishOne(item: DataBody, context: PrivateApiContext): Promise<BatchAnswer> {
  try {
    if (item.kind === "value") return await publishItem(item.value, context, { withMissed: false });
    const error = item.kind === "refused" ? item.error : itemNotJson(item.errorAt);
    context.metrics.publishes.inc({ outcome: error.code });
    return refusal(error);
  } catch (error) {
    if (error instanceof TidegateError) return refusal(error);
    context.errors.report("http", error);
    return refusal(new TidegateError("upstream_failed", "publishing the item failed"));
  }
}

function refusal({ code, message, retryable }: TidegateError): BatchAnswer {
  return { error: { code, message, retryable } };
}

function itemNotJson(errorAt: number, item = ""): TidegateError {
  return new TidegateError("invalid_request", `${item}is not JSON: error at byte ${errorAt + 1} of the item`);
}
