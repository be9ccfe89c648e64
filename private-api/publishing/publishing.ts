/** What one item to publish may look like, and how it is published; single and batch share it. */
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
import type { PrivateApiContext } from "../node/context.ts";

export const PublishItem = Type.Object(
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
export type PublishItem = Static<typeof PublishItem>;
const validator = Compile(PublishItem);
/** A batch has up to a thousand items, and each tells its findings. */
const maxItemFindings = 10;

/** `{}` for an ephemeral item. */
export type PublishAnswer = { epoch: string; offset: number; duplicate?: true } | Record<string, never>;

/** @throws TidegateError where the event's name or the size of the data is not allowed. */
export function checkData(event: string, data: JsonText): void {
  if (!isApplicationEvent(event))
    throw new TidegateError("invalid_request", `event: "${excerpt(event)}" is not allowed`);
  if (data.bytes > maxPayloadBytes) {
    throw new TidegateError("payload_too_large", `data: larger than ${maxPayloadBytes} bytes of JSON`);
  }
}

/**
 * Publishes one item, of which `data` is a {@link JsonText}. The broker is asked before the first wait: items given one after the other keep their order.
 * @param options.tellMissed a conflict brings the channel's position and what was published since, which has to be read.
 * @throws TidegateError, counted.
 */
export async function publishItem(
  item: unknown,
  context: PrivateApiContext,
  options: { tellMissed: boolean },
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
  { tellMissed }: { tellMissed: boolean },
): Promise<PublishAnswer> {
  if (!validator.Check(item)) {
    const errors = explain(validator, item, { max: maxItemFindings });
    throw new TidegateError("invalid_request", `the item is not valid: ${errors.join("; ")}`, { errors });
  }
  const { channel, event, id, history, expect } = item;
  // As the body was read.
  const data = item.data as JsonText;
  checkData(event, data);
  const common = { channel, event, data: data.text, ...(id !== undefined && { id }) };
  if (history === false) {
    if (expect) throw new TidegateError("invalid_request", "expect: an ephemeral publication has no position");
    await context.broker.publishEphemeral(common);
    return {};
  }
  const retention = context.currentRules.rules.namespace(channel);
  const outcome = await context.broker.publish({ ...common, retention, ...(expect && { expect }) });
  if (outcome.kind === "conflict") {
    const missed = tellMissed ? await readMissed(item, outcome, context) : {};
    throw new TidegateError("conflict", "the channel has moved on", missed);
  }
  return { ...outcome.position, ...(outcome.duplicate && { duplicate: true }) };
}

/** What the publisher has not seen, as far as it is kept: members of the problem. */
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
