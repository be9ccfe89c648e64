import { Outbox } from "../../gateway/sockets/outbox.ts";
import { Session } from "../../gateway/sessions/session.ts";

/** A session without a connection: what it is sent goes nowhere. The caller disposes of it. */
export function bareSession(sessionId: string, user = "ada"): Session {
  return new Session({
    sessionId,
    credentials: { user, tenant: undefined, channels: [], expiresAt: Date.now() + 3_600_000, claims: {}, tokenId: "" },
    grantedChannels: [],
    info: undefined,
    moves: false,
    outbox: new Outbox({
      sink: { write: () => undefined, takenBytes: 0 },
      maxBytes: 1_024,
      conflateFromBytes: 1_024,
      onOverflow: () => undefined,
      onConflated: () => undefined,
    }),
    transport: { close: () => undefined, terminate: () => undefined },
  });
}
