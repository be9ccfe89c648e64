import { maxResumeTokenLength, maxTokenLength } from "../../shared/protocol/limits.ts";

/** Of UTF-8: both tokens of a handshake, and as much again, so that a token that is too long gets its own refusal. */
export const maxAuthBytes = 2 * (maxTokenLength + maxResumeTokenLength);

/** In place of an `auth` that is too large to parse. */
export const oversizedAuth: Readonly<Record<string, unknown>> = Object.freeze({});
