import type { Session } from "../sessions/session.ts";

/** A client that is owed answers when its slot comes is closed that much later at most. */
export const maxAnswersMs = 10_000;

/**
 * Ends a session whose client does not move by itself: what it has asked is answered first, then it is told to come back,
 * and everything that waits for it is sent.
 * @param options.answersMs at most so long for answers that are owed.
 */
export function closeInOrder(
  session: Session,
  options: { reason: string; answersMs: number; retryAfterMs: number },
): void {
  const { reason, answersMs, retryAfterMs } = options;
  const close = (): void => {
    clearTimeout(timer);
    session.end("draining", reason, { reconnect: true, retryAfterMs });
  };
  const timer = setTimeout(close, answersMs);
  session.requests.whenNone(close);
}
