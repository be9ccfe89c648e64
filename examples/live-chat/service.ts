/**
 * The service behind the live chat: plain HTTP in, plain HTTP out. Customers' messages and operators' replies arrive from
 * one queue, one at a time for each customer, each repeated until this service answers 2xx.
 *
 * So every step may be repeated: each event is known by an id, and the channel's history tells what was done under it. The
 * service keeps no more than that in memory, and continues from the history after a restart. A service with a database
 * would write there first, publish second, and look there for what it has done.
 */
import type { Server } from "node:http";
import { Refusal } from "../shared/failures.ts";
import { objectIn, textOf } from "../shared/input.ts";
import { PrivateApi } from "../shared/private-api.ts";
import { setting } from "../shared/setting.ts";
import { type Answer, createSignedService, type SignedEvent } from "../shared/signed-service.ts";
import { Conversation, type ConversationEvent, type Message, type Page } from "./conversation.ts";
import { Messenger } from "./messenger.ts";

export interface ChatServiceOptions {
  /** `whsec_` and base64; requests of the private API are signed with it. */
  secret: string;
  privateApiUrl: string;
  /** A token of the private API with the scopes `publish` and `read`. */
  publishToken: string;
  /** Of Facebook's Graph API, with the version. */
  graphUrl: string;
  /** Facebook's token of the page. */
  pageToken: string;
}

/** The Send API's bound. */
const maxTextLength = 2_000;
const maxConversations = 1_000;

/** The caller listens and closes. */
export function createChatService(options: ChatServiceOptions): Server {
  const service = new ChatService(options);
  return createSignedService("chat service", options.secret, (given) => service.answer(given));
}

class ChatService {
  readonly #api: PrivateApi;
  readonly #messenger: Messenger;
  readonly #conversations = new Map<string, Conversation>();

  constructor({ privateApiUrl, publishToken, graphUrl, pageToken }: ChatServiceOptions) {
    this.#api = new PrivateApi(privateApiUrl, publishToken);
    this.#messenger = new Messenger(graphUrl, pageToken);
  }

  async answer(given: SignedEvent): Promise<Answer> {
    // A client may emit an event of any name. The source tells that Facebook sent this one.
    if (given.event === "messenger" && given.source === "/tidegate/hooks/messenger") await this.#takeWebhook(given);
    else if (given.event === "reply") await this.#sendReply(given);
    else throw new Refusal(404, "unknown_event", `this service does not know ${given.event} of ${given.source}`);
    return { status: 204 };
  }

  /** One item of `entry[].messaging[]`. Of what is neither a message nor a receipt, nothing is shown. */
  async #takeWebhook({ eventId, tenant: page, input }: SignedEvent): Promise<void> {
    const customer = customerIn(textOf(objectIn(input, "sender"), "id", 32));
    const { mid, text } = objectIn(input, "message");
    if (typeof mid === "string") {
      // Facebook repeats a message with the same `mid`, but each webhook has a `ce-id` of its own.
      if ((await this.#conversationOf(customer)).has(mid)) return;
      const by = await this.#messenger.nameOf(customer);
      const shown = typeof text === "string" ? text.slice(0, maxTextLength) : "(an attachment)";
      const at = Number(input["timestamp"]);
      await this.#show(page, customer, { id: mid, from: "customer", by, text: shown, at }, eventId);
    }
    const { mids } = objectIn(input, "delivery");
    if (Array.isArray(mids))
      await this.#publish(customer, { event: "delivered", data: { mids: mids.map(String) } }, eventId);
  }

  /**
   * Shows the reply, sends it, and publishes the outcome. Facebook knows no ids of ours: if this process dies after it
   * sent the reply and before the last step, the customer gets the reply twice.
   */
  async #sendReply({ eventId: id, user: by, tenant: page, input }: SignedEvent): Promise<void> {
    const customer = customerIn(textOf(input, "customer", 32));
    const text = textOf(input, "text", maxTextLength);
    const draft = textOf(input, "draft", 64);
    const conversation = await this.#conversationOf(customer);
    if (conversation.isSettled(id)) return;
    if (!conversation.has(id)) {
      await this.#show(page, customer, { id, from: "operator", by, text, at: Date.now(), draft }, id);
    }
    const outcome = await this.#messenger.send(customer, text);
    const settled: ConversationEvent =
      outcome.kind === "sent"
        ? { event: "sent", data: { id, mid: outcome.mid } }
        : { event: "failed", data: { id, reason: outcome.reason } };
    await this.#publish(customer, settled, `${id}-settled`);
  }

  /** The inbox comes first: a repeat that finds the message in its conversation has nothing left to do. */
  async #show(page: string, customer: string, message: Message, id: string): Promise<void> {
    const { from, text, at } = message;
    const data = { customer, name: await this.#messenger.nameOf(customer), from, text, at };
    await this.#api.publish({ channel: `inbox:${page}`, event: "conversation", data, id });
    await this.#publish(customer, { event: "message", data: message }, id);
  }

  async #publish(customer: string, event: ConversationEvent, id: string): Promise<void> {
    await this.#api.publish({ channel: `chat:${customer}`, ...event, id });
  }

  /** As new as the request: another process of this service may have worked on it before. */
  async #conversationOf(customer: string): Promise<Conversation> {
    const conversation = this.#conversations.get(customer) ?? new Conversation();
    if (this.#conversations.size >= maxConversations) this.#conversations.clear();
    this.#conversations.set(customer, conversation);
    const channel = `chat:${customer}`;
    while (conversation.follow(await this.#api.historyAfter<Page>(channel, conversation.position)));
    return conversation;
  }
}

/** Facebook's id of the customer, which names a channel. */
function customerIn(id: string): string {
  if (/^\d+$/.test(id)) return id;
  throw new Refusal(400, "bad_input", "the customer's id must have digits only");
}

if (import.meta.main) {
  const server = createChatService({
    secret: setting("CHAT_SECRET"),
    privateApiUrl: setting("PRIVATE_API_URL"),
    publishToken: setting("PRIVATE_API_TOKEN"),
    graphUrl: setting("GRAPH_URL"),
    pageToken: setting("MESSENGER_PAGE_TOKEN"),
  });
  const port = Number(process.env["PORT"] ?? 8083);
  server.listen(port, "127.0.0.1", () => process.stdout.write(`chat service: http://127.0.0.1:${port}\n`));
}
