/** Publishes one item. A batch publishes each of its items in the same way. */
import type { FastifyInstance } from "fastify";
import { type Static, Type } from "typebox";
import { Compile } from "typebox/compile";
import { publicationsText, readPage } from "../../shared/channels/history-page.ts";
import type { PublishOutcome } from "../../shared/channels/contract.ts";
import { type ErrorOptions, TidegateError } from "../../shared/runtime/errors.ts";
import { excerpt } from "../../shared/runtime/excerpt.ts";
import type { JsonText } from "../../shared/json/json-text.ts";
import { PositionSchema } from "../../shared/protocol/client-messages.ts";
import { channelPattern, isApplicationEvent, wellFormedPattern } from "../../shared/protocol/grammar.ts";
import { maxPayloadBytes } from "../../shared/protocol/limits.ts";
import { explain } from "../../shared/runtime/schema-errors.ts";
import { keptOf } from "../changes/kept-of.ts";
import { namespaceRefusal } from "../changes/namespace-refusal.ts";
import type { PrivateApiContext } from "../node/context.ts";
import { maxPublishBodyBytes } from "./limits.ts";

const PublishItem = Type.Object(
  {
    channel: Type.String({ pattern: channelPattern.source, description: "namespace:rest" }),
    event: Type.String({ description: "Name of the event that clients get" }),
    data: Type.Unknown({ description: `At most ${maxPayloadBytes} bytes as JSON` }),
    id: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 200,
        pattern: wellFormedPattern.source,
        description: "Idempotent per channel for 5 minutes",
      }),
    ),
    history: Type.Optional(Type.Boolean({ description: "false: ephemeral, not stored, moves no offset" })),
    expect: Type.Optional(PositionSchema),
  },
  { additionalProperties: false },
);
type PublishItem = Static<typeof PublishItem>;
const validator = Compile(PublishItem);
/** Findings listed for each item: a batch has up to a thousand items. */
const maxItemFindings = 10;

/** `{}` for an ephemeral item. */
export type PublishAnswer = { epoch: string; offset: number; duplicate?: true } | Record<string, never>;

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

/** @throws TidegateError for an event name or a data size that is not allowed. */
export function checkData(event: string, data: JsonText): void {
  if (!isApplicationEvent(event)) {
    throw new TidegateError("invalid_request", `event: "${excerpt(event)}" is not allowed`);
  }
  if (data.bytes > maxPayloadBytes) {
    throw new TidegateError("payload_too_large", `data: larger than ${maxPayloadBytes} bytes of JSON`);
  }
}

/**
 * Publishes one item, whose `data` is a {@link JsonText}. The broker is called before the first await: items passed one
 * after the other keep their order.
 * @param options.withMissed reads the channel's position and the publications after `expect` into the error of a conflict.
 * @throws TidegateError; the metrics count it.
 */
export async function publishItem(
  item: unknown,
  context: PrivateApiContext,
  options: { withMissed: boolean },
): Promise<PublishAnswer> {
  try {
    const answer = await publish(item, context, options);
    context.metrics.publishes.inc({ outcome: "duplicate" in answer ? "duplicate" : "ok" });
    return answer;
  } catch (error) {
    const code = error instanceof TidegateError ? error.code : "unexpected";
    context.metrics.publishes.inc({ outcome: code });
    throw error;
  }
}

async function publish(
  item: unknown,
  context: PrivateApiContext,
  { withMissed }: { withMissed: boolean },
): Promise<PublishAnswer> {
  if (!validator.Check(item)) {
    const errors = explain(validator, item, { max: maxItemFindings });
    throw new TidegateError("invalid_request", `the item is not valid: ${errors.join("; ")}`, { errors });
  }
  const { channel, event, id, history, expect } = item;
  // The door reads `data` as text (config.passesData).
  const data = item.data as JsonText;
  checkData(event, data);
  const { currentRules, changeBudget, metrics } = context;
  const refusal = namespaceRefusal(channel, { rules: currentRules.rules, metrics });
  if (refusal !== undefined) throw new TidegateError("invalid_request", refusal);
  const common = { channel, event, data: data.text, ...(id !== undefined && { id }) };
  if (history === false) {
    if (expect) throw new TidegateError("invalid_request", "expect: an ephemeral publication has no position");
    await context.broker.publishEphemeral(common);
    return {};
  }
  const kept = keptOf(channel, data.bytes, { rules: currentRules.rules, changeBudget });
  const outcome = await context.broker.publish({ ...common, ...kept, ...(expect && { expect }) });
  if (outcome.kind === "conflict") {
    const missed = withMissed ? await readMissed(item, outcome, context) : {};
    throw new TidegateError("conflict", "the channel is at another position", missed);
  }
  return { ...outcome.position, ...(outcome.duplicate && { duplicate: true }) };
}

/** Members of the problem: the publications after `expect`, as far as history has them. */
async function readMissed(
  { channel, expect }: PublishItem,
  { position }: PublishOutcome,
  { broker, currentRules }: PrivateApiContext,
): Promise<Pick<ErrorOptions, "details" | "jsonMembers">> {
  const retention = currentRules.rules.namespace(channel);
  const since = { epoch: expect?.epoch, after: expect?.offset };
  const missed = await readPage(broker, { channel, retention, ...since }).catch((error: unknown) => {
    if (error instanceof TidegateError && !error.retryable) return { position, publications: [] };
    throw error;
  });
  return {
    details: { position: missed.position },
    jsonMembers: { publications: publicationsText(missed.publications) },
  };
}
