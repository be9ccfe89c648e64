import type { FastifyInstance } from "fastify";
import { Type } from "typebox";
import { TidegateError } from "../../shared/errors.ts";
import { parseJson } from "../../shared/json.ts";
import { maxBatchBytes, maxBatchItems } from "../../shared/protocol/limits.ts";
import type { PrivateApiContext } from "../context.ts";
import { type PublishAnswer, publishItem } from "../publishing.ts";

const ndjson = "application/x-ndjson";
type BatchAnswer = PublishAnswer | { error: { code: string; message: string; retryable: boolean } };

/** `POST /v1/publish/batch`: a JSON array or NDJSON; the answer has the same form and order, an error stands for itself. */
export function addPublishBatch(app: FastifyInstance, context: PrivateApiContext): void {
  app.register(async (scope) => {
    scope.addContentTypeParser(ndjson, { parseAs: "string" }, (_request, body, done) => {
      done(null, parseLines(body as string));
    });
    scope.post(
      "/v1/publish/batch",
      {
        bodyLimit: maxBatchBytes,
        preValidation: context.requireScope("publish"),
        schema: {
          summary: `Publish up to ${maxBatchItems} items, each on its own`,
          tags: ["publish"],
          consumes: ["application/json", ndjson],
          body: Type.Array(Type.Unknown()),
        },
      },
      async (request, reply) => {
        const items = request.body as unknown[];
        if (items.length > maxBatchItems) {
          throw new TidegateError("payload_too_large", `a batch has at most ${maxBatchItems} items`);
        }
        const answers = await Promise.all(items.map((item) => publishOne(item, context)));
        if (!request.headers["content-type"]?.toLowerCase().startsWith(ndjson)) return answers;
        return reply.type(ndjson).send(answers.map((answer) => `${JSON.stringify(answer)}\n`).join(""));
      },
    );
  });
}

/** A line that is not JSON stays in its place, as the item undefined, which no schema accepts. */
function parseLines(body: string): unknown[] {
  return body
    .split("\n")
    .filter((line) => line.trim() !== "")
    .map(parseJson);
}

async function publishOne(item: unknown, context: PrivateApiContext): Promise<BatchAnswer> {
  try {
    return await publishItem(item, context);
  } catch (error) {
    if (!(error instanceof TidegateError)) throw error;
    return { error: { code: error.code, message: error.message, retryable: error.retryable } };
  }
}
