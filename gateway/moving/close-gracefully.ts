import type { Session } from "../sessions/session.ts";

/** Longest wait for answers that the client is still owed when its move time comes. */
export const maxAnswersMs = 10_000;

/**
 * Ends a session whose client does not move by itself: waits for the answers to its open requests, asks the client to
 * reconnect, and closes once everything that waits for the client is sent.
 * @param options.answersMs longest wait for answers. `isCalledOff`: the session stays.
 */
export function closeGracefully(
  session: Session,
  options: { reason: string; answersMs: number; retryAfterMs: number; isCalledOff?: () => boolean },
): void {
  const { reason, answersMs, retryAfterMs, isCalledOff } = options;
  const close = (): void => {
    clearTimeout(timer);
    if (isCalledOff?.()) return;
    session.end("draining", reason, { reconnect: true, retryAfterMs });
  };
  const timer = setTimeout(close, answersMs);
  session.requests.whenNone(close);
}
