import { maxPayloadBytes } from "../../shared/protocol/limits.ts";

/** JSON may spell each byte of the data as `\u00xx`, and has the other members besides. */
export const maxPublishBodyBytes = maxPayloadBytes * 6 + 4_096;
