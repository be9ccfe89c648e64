import { Type } from "typebox";
import { channelPattern } from "../../shared/protocol/grammar.ts";
import { maxPayloadBytes } from "../../shared/protocol/limits.ts";

/** JSON may spell each byte of the data as `\u00xx`; the rest is for the other members. */
export const maxPublishBodyBytes = maxPayloadBytes * 6 + 4_096;

/** Of an endpoint: JSON may spell a character with six. */
export const endpointBodyBytes = 128 * 1024;

/** A change of a channel, where an endpoint moves to. */
export const ChannelOffset = Type.Object(
  {
    channel: Type.String({ pattern: channelPattern.source }),
    offset: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
    at: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: Number.MAX_SAFE_INTEGER,
        description:
          "Unix ms at which it was published, as the ledger has it: needed where the log has several epochs of the channel",
      }),
    ),
  },
  { additionalProperties: false },
);
