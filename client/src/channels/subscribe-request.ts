/** What the application wants of a channel: from its first `subscribe()` until the last object unsubscribes, or it ends. */
export class SubscribeRequest {
  /** The gateway has granted it, on any connection. */
  answered = false;
  withdrawn = false;
}
