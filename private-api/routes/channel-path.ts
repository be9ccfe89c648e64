import { type Static, Type } from "typebox";
import { channelPattern } from "../../shared/protocol/grammar.ts";

const channel = Type.String({ pattern: channelPattern.source });

export const ChannelPath = Type.Object({ channel });
export type ChannelPath = Static<typeof ChannelPath>;

export const ChannelBody = Type.Object({ channel }, { additionalProperties: false });
export type ChannelBody = Static<typeof ChannelBody>;
