import { maxResumeTokenLength, maxTokenLength } from "../../shared/protocol/limits.ts";

/** Both tokens of a handshake, and as much again, so that a token that is too long is refused by its own message. */
export const maxAuthLength = 2 * (maxTokenLength + maxResumeTokenLength);

/** Stands for an `auth` that is too large to be parsed. */
export const oversizedAuth: Readonly<Record<string, unknown>> = Object.freeze({});
