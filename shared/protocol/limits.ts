/** Bounds of the contract that clients and services may rely on. Import-free. */

const KiB = 1024;

/** Data of one message or publication, as UTF-8 bytes of its JSON. */
export const maxPayloadBytes = 64 * KiB;
/** An answer of a service. */
export const maxAnswerBytes = 1024 * KiB;
/** Subscriptions of one connection. */
export const maxChannelsPerConnection = 200;
/** Publications replayed to one subscriber; past either bound it is `too_far_behind`. */
export const maxReplayPublications = 1_000;
export const maxReplayBytes = 512 * KiB;
/** Publications in one answer to a history read. */
export const maxHistoryLimit = 1_000;
/** Items of one batch publish. */
export const maxBatchItems = 1_000;
export const maxBatchBytes = 1024 * KiB;
/** What one connection may have waiting to be sent. */
export const maxOutboxBytes = 1024 * KiB;
/** Past this, of what a namespace marks as `slow: latest` only the newest waits. */
export const conflateFromBytes = 256 * KiB;
/** From the upgrade to the accept, hooks included. */
export const connectDeadlineMs = 8_000;
/** A token. Its claims travel on to services in a header, which HTTP servers bound at 16 KiB. */
export const maxTokenLength = 8 * KiB;
/** What a client carries for us, to resume with. */
export const maxResumeTokenLength = 16 * KiB;
/** A grant for one channel. */
export const maxGrantLength = 16 * KiB;
/** Channels with more sessions than this tell how many users are there, not who. */
export const maxListedSessions = 200;
/** A user's name (`sub` of the token). */
export const maxUserLength = 256;
/** A tenant's name (`tenant` of the token). */
export const maxTenantLength = 256;
export const protocolVersion = 1;
