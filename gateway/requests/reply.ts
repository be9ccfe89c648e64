/** What a request is answered with. */
export interface Reply {
  /** Sent as `{ ok: true, ...ack }`. */
  ack: object;
  /** Runs once the ack is in the outbox, before anything else is sent. */
  afterAck?: () => void;
}
