/** The two calls of Facebook's Graph API that the live chat uses: the Send API and the user's profile. */
import { Unavailable } from "../shared/failures.ts";

export type SendOutcome = { kind: "sent"; mid: string } | { kind: "refused"; reason: string };

const timeoutMs = 3_000;
const maxNames = 1_000;

export class Messenger {
  readonly #url: string;
  readonly #pageToken: string;
  readonly #names = new Map<string, string>();

  /** @param url with the version: `https://graph.facebook.com/v23.0` */
  constructor(url: string, pageToken: string) {
    this.#url = url;
    this.#pageToken = pageToken;
  }

  /** @throws Unavailable where Facebook cannot be reached or asks to try again; the message may have been sent then. */
  async send(customer: string, text: string): Promise<SendOutcome> {
    const message = { recipient: { id: customer }, messaging_type: "RESPONSE", message: { text } };
    const { status, body } = await this.#request("/me/messages", message);
    if (status === 200) return { kind: "sent", mid: String(body["message_id"]) };
    const { message: reason = `status ${status}` } = (body["error"] ?? {}) as { message?: string };
    return { kind: "refused", reason };
  }

  /** @throws Unavailable */
  async nameOf(customer: string): Promise<string> {
    const known = this.#names.get(customer);
    if (known !== undefined) return known;
    const { body } = await this.#request(`/${customer}?fields=name`);
    const { name } = body;
    if (typeof name !== "string") return `Customer ${customer}`;
    if (this.#names.size >= maxNames) this.#names.clear();
    this.#names.set(customer, name);
    return name;
  }

  async #request(path: string, content?: object): Promise<{ status: number; body: Record<string, unknown> }> {
    let response: Response;
    let body: Record<string, unknown>;
    try {
      response = await fetch(this.#url + path, {
        method: content ? "POST" : "GET",
        headers: { "content-type": "application/json", authorization: `Bearer ${this.#pageToken}` },
        signal: AbortSignal.timeout(timeoutMs),
        ...(content && { body: JSON.stringify(content) }),
      });
      body = (await response.json()) as Record<string, unknown>;
    } catch (error) {
      throw new Unavailable("Facebook cannot be reached", { cause: error });
    }
    const { status } = response;
    if (status === 429 || status >= 500) throw new Unavailable(`Facebook answered ${status}`);
    return { status, body };
  }
}
