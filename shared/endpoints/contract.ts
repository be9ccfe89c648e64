/**
 * The contract for the stores of endpoints: their documents, and the outcomes of their deliveries. Memory and Redis pass the same
 * suite. Documents contain secrets: no part of a document may be logged.
 */
import type { Service } from "../runtime/lifecycle.ts";
import type { Endpoint } from "./endpoint.ts";

export interface StoredEndpoint {
  readonly endpoint: Endpoint;
  /** Grows with each change of any endpoint: two endpoints never have the same version. */
  readonly version: number;
  /** Unix ms by the store's clock. The endpoint gets changes from that time on, and those after its cursors. */
  readonly startsAt: number;
  readonly createdAt: number;
  /** Grows with each move in the log. */
  readonly generation: number;
  /** What earlier generations have queued is not sent. */
  readonly validFrom: number;
}

/** Moves an endpoint in the log: a new generation begins. */
export interface Move {
  /** Greater than the present one. The new places are stored under it before the move, so no other try may use it. */
  readonly generation: number;
  /** Unix ms; `same`: what it was; `now`: the next millisecond of the store's clock, which has begun when the change resolves. */
  readonly startsAt: number | "now" | "same";
  /** What earlier generations have queued is still sent. */
  readonly keepsQueued?: boolean;
}

export type EndpointChange = "stored" | "changed_meanwhile" | "none";

export interface ChangedEndpoints {
  /** Every change up to this version is included; later ones may be. */
  readonly version: number;
  /** True: what is not listed is removed. */
  readonly isAll: boolean;
  readonly endpoints: readonly StoredEndpoint[];
  readonly removed: readonly string[];
}

export interface EndpointStore extends Service {
  /** It starts now, see {@link Move}. @returns undefined where there are {@link maxEndpoints} already. */
  create(endpoint: Endpoint): Promise<StoredEndpoint | undefined>;
  read(id: string): Promise<StoredEndpoint | undefined>;
  /** Replaces the endpoint if the stored one has that version. */
  change(endpoint: Endpoint, ifVersion: number, move?: Move): Promise<EndpointChange>;
  /** @returns false where there is none. */
  remove(id: string): Promise<boolean>;
  /** What changed after that version. Everything at -1, or if the store has lost that version or does not know all that changed since. */
  readSince(version: number): Promise<ChangedEndpoints>;
  /** Of the last change of any endpoint, removals included. */
  version(): Promise<number>;
  /** After every change, and when one may have been missed. */
  onChange(listener: () => void): void;
}

/** One request to an endpoint, or one that was refused before it was sent. */
export interface Attempt {
  /** Unix ms. */
  readonly at: number;
  /** `webhook-id` */
  readonly changeId: string;
  /** From 1 on. */
  readonly attempt: number;
  readonly status?: number;
  readonly ms: number;
  readonly error?: string;
  /** The first KiB of what the endpoint answered. */
  readonly answer?: string;
}

export type FailedAttempt = Attempt & { readonly error: string };

export interface StoredAttempt extends Attempt {
  /** Names its place in the list. */
  readonly id: string;
}

export interface EndpointHealth {
  /** Unix ms of the first failure since its last success; undefined while it answers. */
  readonly failingSince?: number;
  readonly lastError?: { readonly at: number; readonly status?: number; readonly message: string };
}

/** How deliveries to endpoints went. */
export interface AttemptLog extends Service {
  /** Resolves once it is stored. Attempts that are stored together share one promise. */
  addSuccess(endpointId: string, attempt: Attempt): Promise<void>;
  /** @returns the health of the endpoint after it. */
  addFailure(endpointId: string, attempt: FailedAttempt): Promise<EndpointHealth>;
  /** Newest first. @param query.after the id of the last one that is known */
  attempts(endpointId: string, query: { limit: number; after?: string }): Promise<readonly StoredAttempt[]>;
  health(endpointIds: readonly string[]): Promise<readonly EndpointHealth[]>;
  /** It counts as failing from its next failure on. */
  forgive(endpointId: string): Promise<void>;
  /** Deletes what is kept of it. */
  forget(endpointId: string): Promise<void>;
}

/** Attempts kept of each endpoint. */
export const keptAttempts = 100;
/** Attempts are kept for this long after the last one. */
export const attemptsSeconds = 259_200;
/** The health of an endpoint is kept for this long after the last attempt, if it ever failed. */
export const healthSeconds = 30 * 86_400;
/** Of an answer. */
export const keptAnswerBytes = 1_024;
