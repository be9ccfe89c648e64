import type { FastifyInstance } from "fastify";
import { type Static, Type } from "typebox";
import { objectText } from "../../shared/json/json-text.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import { channelFindings, parseChannels } from "../changes/channel-filter.ts";
import type { PulledItem, PullRequest } from "../changes/change-pulls.ts";
import { formatCursor, maxTime, parseCursor } from "../changes/pull-cursor.ts";
import type { PrivateApiContext } from "../node/context.ts";

const maxLimit = 1_000;
const maxWaitMs = 60_000;
const Query = Type.Object(
  {
    channels: Type.Optional(
      Type.String({ description: "Names, or prefixes with a final *, separated by commas; all without it" }),
    ),
    cursor: Type.Optional(
      Type.String({
        description: "Of the answer before, start, end, or time:<Unix ms>; absent: start, the oldest change kept",
      }),
    ),
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: maxLimit, description: `${maxLimit} without it` })),
    waitMs: Type.Optional(
      Type.Integer({ minimum: 0, maximum: maxWaitMs, description: "Longest wait for a first change; 0 without it" }),
    ),
  },
  { additionalProperties: false },
);
const Answer = Type.Object({
  changes: Type.Array(
    Type.Union([
      Type.Object({
        channel: Type.String(),
        epoch: Type.String(),
        offset: Type.Integer(),
        prev: Type.Optional(Type.Integer({ description: "The publication before, where that is not offset - 1" })),
        event: Type.String(),
        data: Type.Unknown({ description: "As its publisher wrote it" }),
        at: Type.Integer({ description: "Unix ms" }),
      }),
      Type.Object({
        gap: Type.Object({
          channel: Type.Optional(Type.String()),
          from: Type.Integer({ description: "Unix ms; changes from then on may be missing" }),
          to: Type.Integer({ description: "Unix ms, inclusive" }),
        }),
      }),
    ]),
  ),
  cursor: Type.String({ description: "Continues after this answer" }),
});

/** `GET /v1/changes?channels&cursor&limit&waitMs` → `{ changes, cursor }`. */
export function addListChanges(app: FastifyInstance, { pulls }: PrivateApiContext): void {
  app.get<{ Querystring: Static<typeof Query> }>(
    "/v1/changes",
    {
      config: { access: "read" },
      // The answer is text already: its schema describes it only.
      schema: { summary: "Read the change log", tags: ["changes"], querystring: Query, response: { 200: Answer } },
    },
    async (request, reply) => {
      const { channels = "*", cursor, limit = maxLimit, waitMs = 0 } = request.query;
      const from = parseFrom(cursor);
      if (!from) {
        const errors = [badCursor, ...channelFindings(channels)];
        throw new TidegateError("invalid_request", errors.join("; "), { errors });
      }
      const filter = parseChannels(channels);
      const gone = new AbortController();
      reply.raw.once("close", () => gone.abort());
      // Without a colon: bridges have one.
      const caller = request.caller.replaceAll(/[%:]/g, encodeURIComponent);
      const pulled = await pulls.pull({ filter, from, limit, waitMs, caller, signal: gone.signal });
      const changes = `[${pulled.items.map(itemText).join(",")}]`;
      const text = objectText({}, { changes, cursor: JSON.stringify(formatCursor(pulled.cursor)) });
      return reply.type("application/json; charset=utf-8").send(text);
    },
  );
}

const badCursor = "cursor: must be that of an earlier answer, start, end, or time:<Unix ms>";

/** Undefined: it is none. */
function parseFrom(text: string | undefined): PullRequest["from"] | undefined {
  if (text === undefined || text === "start") return { kind: "start" };
  if (text === "end") return { kind: "end" };
  const [, time] = /^time:(\d{1,15})$/.exec(text) ?? [];
  if (time !== undefined && Number(time) < maxTime) return { kind: "time", at: Number(time) };
  const cursor = parseCursor(text);
  return cursor && { kind: "cursor", cursor };
}

/** The data stays as its publisher wrote it. */
function itemText(item: PulledItem): string {
  if (item.kind === "gap") {
    return JSON.stringify({ gap: { ...(item.channel !== undefined && { channel: item.channel }), ...item.gap } });
  }
  const { channel, epoch, offset, prev, event, data, at } = item.change;
  const jump = prev === offset - 1 ? {} : { prev };
  return objectText({ channel, epoch, offset, ...jump, event, at }, { data });
}
