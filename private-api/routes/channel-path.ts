import { type Static, Type } from "typebox";
import { channelPattern } from "../../shared/protocol/grammar.ts";

export const ChannelPath = Type.Object({ channel: Type.String({ pattern: channelPattern.source }) });
export type ChannelPath = Static<typeof ChannelPath>;
