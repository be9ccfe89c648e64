/** Limits of the wire contract. Import-free. */

const KiB = 1024;

/** Data of one message or publication, as UTF-8 bytes of its JSON. */
export const maxPayloadBytes = 64 * KiB;
/** An answer of a service. */
export const maxAnswerBytes = 1024 * KiB;
/** Subscriptions of one connection. */
export const maxChannelsPerConnection = 200;
/** Most publications and bytes replayed to one subscriber; past either limit it is `too_far_behind`. */
export const maxReplayPublications = 1_000;
export const maxReplayBytes = 512 * KiB;
/** Publications in one answer to a history read. */
export const maxHistoryLimit = 1_000;
/** Items of one batch publish. */
export const maxBatchItems = 1_000;
export const maxBatchBytes = 1024 * KiB;
/** Queued data of one connection. */
export const maxOutboxBytes = 1024 * KiB;
/** Past this much queued data, channels with `slow: latest` keep only the newest publication queued. */
export const conflateFromBytes = 256 * KiB;
/** From the upgrade to the accepted connection, including hooks. */
export const connectDeadlineMs = 8_000;
/** A token. Its claims reach services in a header, and HTTP servers limit headers to 16 KiB. */
export const maxTokenLength = 8 * KiB;
/** A resume token. */
export const maxResumeTokenLength = 16 * KiB;
/** A grant for one channel. */
export const maxGrantLength = 16 * KiB;
/** In channels with more sessions, presence gives the number of users, not their names. */
export const maxListedSessions = 200;
/** A user's name (`sub` of the token). */
export const maxUserLength = 256;
/** A tenant's name (`tenant` of the token). */
export const maxTenantLength = 256;
export const protocolVersion = 1;
