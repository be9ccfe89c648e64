import { maxPayloadBytes } from "../../shared/protocol/limits.ts";

/** JSON may spell each byte of the data as `\u00xx`; the rest is for the other members. */
export const maxPublishBodyBytes = maxPayloadBytes * 6 + 4_096;
