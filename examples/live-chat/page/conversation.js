/** One conversation: its messages, what became of the replies, and this window's replies that are not published yet. */
export class Conversation {
  /** By id: the message with its offset. */
  #messages = new Map();
  /** By the id of a reply: Facebook's id. */
  #mids = new Map();
  /** By the id of a reply. */
  #reasons = new Map();
  /** Facebook's ids. */
  #delivered = new Set();
  #drafts = new Map();

  apply(event, data, offset) {
    if (event === "message") {
      this.#messages.set(data.id, { ...data, offset });
      this.#drafts.delete(data.draft);
    }
    if (event === "sent") this.#mids.set(data.id, data.mid);
    if (event === "failed") this.#reasons.set(data.id, data.reason);
    if (event === "delivered") for (const mid of data.mids) this.#delivered.add(mid);
  }

  /** The drafts stay. */
  clear() {
    for (const known of [this.#messages, this.#mids, this.#reasons, this.#delivered]) known.clear();
  }

  addDraft({ draft, text, by }) {
    this.#drafts.set(draft, { from: "operator", by, text, at: Date.now(), status: "Waiting for the connection" });
  }

  /** The gateway has stored it: the service gets it, even if it is away now. */
  confirmDraft(draft) {
    const stored = this.#drafts.get(draft);
    if (stored) stored.status = "Stored";
  }

  removeDraft(draft) {
    this.#drafts.delete(draft);
  }

  /** In the channel's order, each with its `status`; the drafts follow. */
  get messages() {
    const published = [...this.#messages.values()].sort((a, b) => a.offset - b.offset);
    return [...published.map((message) => ({ ...message, status: this.#statusOf(message) })), ...this.#drafts.values()];
  }

  #statusOf({ id, from }) {
    if (from === "customer") return "";
    if (this.#reasons.has(id)) return `Not sent: ${this.#reasons.get(id)}`;
    const mid = this.#mids.get(id);
    if (mid === undefined) return "Sending";
    return this.#delivered.has(mid) ? "Delivered" : "Sent";
  }
}
