import type { FastifyInstance } from "fastify";
import type { PrivateApiContext } from "../node/context.ts";
import { PublishItem, publishItem } from "../publishing/publish-item.ts";
import { maxPublishBodyBytes } from "./limits.ts";

/** `POST /v1/publish` → `{ epoch, offset, duplicate? }`, or `{}` for an ephemeral item. */
export function addPublish(app: FastifyInstance, context: PrivateApiContext): void {
  app.post(
    "/v1/publish",
    {
      bodyLimit: maxPublishBodyBytes,
      config: { access: "publish", passesData: true },
      schema: { summary: "Publish to a channel", tags: ["publish"], body: PublishItem },
      // publishItem validates it, as it validates the items of a batch.
      validatorCompiler: () => () => true,
    },
    async (request) => publishItem(request.body, context, { withMissed: true }),
  );
}
