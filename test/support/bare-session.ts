import type { Connection } from "../../gateway/outbox/connection.ts";
import { Outbox } from "../../gateway/outbox/outbox.ts";
import { Session } from "../../gateway/sessions/session.ts";

/**
 * A session without a connection. The caller ends it or disposes of it.
 * @param options.write takes its frames; by default at once.
 */
export function bareSession(
  sessionId: string,
  user = "ada",
  options: { moves?: boolean; write?: Connection["write"] } = {},
): Session {
  const { moves = false, write = (_packet, _options, sent) => sent?.() } = options;
  const session: Session = new Session({
    sessionId,
    credentials: { user, tenant: undefined, channels: [], expiresAt: Date.now() + 3_600_000, claims: {}, tokenId: "" },
    grantedChannels: [],
    info: undefined,
    moves,
    storeNow: () => Date.now(),
    outbox: new Outbox({
      sink: { write, takenBytes: 0 },
      maxBytes: 1_024,
      conflateFromBytes: 1_024,
      onOverflow: () => undefined,
      onConflated: () => undefined,
    }),
    connection: {
      address: "127.0.0.1",
      close: (_announce, whenClosed) => {
        session.dispose();
        whenClosed?.(true);
      },
      terminate: () => session.dispose(),
    },
  });
  return session;
}
