import { textWithPublications } from "../../shared/channels/history-page.ts";
import type { Publication } from "../../shared/channels/contract.ts";

/** The answer to a request. */
export interface Reply {
  /** Sent as `{ ok: true, ...ack }`. */
  ack: object;
  /** A further member of the ack: data as JSON text, as stored. */
  publications?: readonly Publication[];
  /** Cost beyond the price of the request. */
  surcharge?: number;
  /** Called once the ack is in the outbox, before anything else is sent, with the size of the ack. */
  afterAck?: (bytes: number) => void;
}

/** The ack of a request that succeeded, as JSON text. */
export function ackText({ ack, publications }: Reply): string {
  const members = { ok: true, ...ack };
  return publications ? textWithPublications(members, publications) : JSON.stringify(members);
}
