/**
 * The client of the chat while users move: asks the bootstrap which side to use, and speaks to either with the same Socket.IO client. A move loses
 * nothing: it connects to the other side first, and leaves once everything that was on its way here has come.
 */
import { randomUUID } from "node:crypto";
import { setTimeout as wait } from "node:timers/promises";
import { io, type Socket } from "socket.io-client";

export interface ChatMessage {
  id: string;
  user: string;
  text: string;
}

type Side = "old" | "tidegate";

interface Connection {
  readonly side: Side;
  readonly socket: Socket;
  /** Requests that are not acknowledged yet. */
  readonly sending: Set<Promise<unknown>>;
}

export interface ChatClientOptions {
  /** Of any gateway. */
  bootstrapUrl: string;
  token: string;
  room: string;
  /** Each message once. A repeat is recognised among the last 10,000. */
  onMessage: (message: ChatMessage) => void;
}

/** A marker that was lost with a bridge is sent again. */
const markerMs = 1_000;
/** More than a move brings twice: a history has at most 1,000. */
const maxShown = 10_000;
/** Not shown. */
const marker = "/moved";

export class ChatClient {
  readonly #options: ChatClientOptions;
  #current: Connection | undefined;
  #following: Promise<void> | undefined;
  #hasLeft = false;
  /** Ids, oldest first. */
  readonly #shown = new Set<string>();

  constructor(options: ChatClientOptions) {
    this.#options = options;
  }

  get side(): Side | undefined {
    return this.#current?.side;
  }

  /**
   * Connects to the side that the bootstrap names, where it is not there already. One call at a time: others wait for it. Where it
   * fails after the move, messages of the former side may be missing.
   */
  async follow(): Promise<void> {
    this.#following ??= this.#follow().finally(() => (this.#following = undefined));
    await this.#following;
  }

  async #follow(): Promise<void> {
    const { bootstrapUrl, token } = this.#options;
    const answer = await fetch(`${bootstrapUrl}/v1/bootstrap`, { headers: { authorization: `Bearer ${token}` } });
    if (!answer.ok) throw new Error(`bootstrap was answered ${answer.status}`);
    const { url, config } = (await answer.json()) as { url: string; config: { transport: Side } };
    const former = this.#current;
    if (former?.side === config.transport) return;
    const next = await this.#connect(config.transport, url);
    if (this.#hasLeft) {
      next.socket.disconnect();
      return;
    }
    this.#current = next;
    if (!former) return;
    try {
      if (former.side === "tidegate") await this.#everythingHasCome(former, next);
      await Promise.allSettled(former.sending);
    } finally {
      former.socket.disconnect();
    }
  }

  /** Resolves once the message is acknowledged: by the old server, which keeps nothing, or once Tidegate has stored it. */
  async send(text: string, id: string = randomUUID()): Promise<Side> {
    const connection = this.#current;
    if (!connection) throw new Error("not connected");
    await this.#send(connection, { id, text });
    return connection.side;
  }

  /** Final. */
  leave(): void {
    this.#hasLeft = true;
    this.#current?.socket.disconnect();
  }

  async #connect(side: Side, url: string): Promise<Connection> {
    const { token } = this.#options;
    const socket = io(url, { transports: ["websocket"], auth: { token }, forceNew: true });
    try {
      await this.#join(side, socket);
    } catch (error) {
      socket.disconnect();
      throw error;
    }
    return { side, socket, sending: new Set() };
  }

  async #join(side: Side, socket: Socket): Promise<void> {
    const { room } = this.#options;
    socket.on("chat.message", (message: ChatMessage) => this.#receive(message));
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("connect_error", reject);
    });
    if (side === "old") await request(socket, "join", room);
    else {
      await request(socket, "sync:subscribe", { channel: `chat:${room}` });
      // What came before the subscription, and after the former side's last message.
      const { publications } = await request(socket, "sync:history", { channel: `chat:${room}`, limit: 1_000 });
      for (const { data } of publications as { data: ChatMessage }[]) this.#receive(data);
    }
  }

  /**
   * From now on the old side gets what is published and emitted: after a marker that was sent to each side has come here, everything before it
   * has come too. @throws where a side does not acknowledge its marker within 60 s
   */
  async #everythingHasCome(tidegate: Connection, old: Connection): Promise<void> {
    const [published, emitted] = [randomUUID(), randomUUID()];
    const missing = new Set<string>([published, emitted]);
    const { promise: allCame, resolve } = Promise.withResolvers<void>();
    tidegate.socket.on("chat.message", ({ id }: ChatMessage) => {
      if (missing.delete(id) && missing.size === 0) resolve();
    });
    while (missing.size > 0) {
      await this.#send(tidegate, { id: published, text: marker });
      await this.#send(old, { id: emitted, text: marker });
      await Promise.race([allCame, wait(markerMs)]);
    }
  }

  async #send({ socket, sending }: Connection, { id, text }: { id: string; text: string }): Promise<void> {
    const sent = request(socket, "chat.send", { id, text, room: this.#options.room });
    sending.add(sent);
    await sent.finally(() => sending.delete(sent));
  }

  #receive(message: ChatMessage): void {
    if (message.text === marker || this.#shown.has(message.id)) return;
    this.#shown.add(message.id);
    const [oldest] = this.#shown;
    if (this.#shown.size > maxShown && oldest !== undefined) this.#shown.delete(oldest);
    this.#options.onMessage(message);
  }
}

async function request(socket: Socket, event: string, data: unknown): Promise<Record<string, unknown>> {
  const answer = (await socket.timeout(60_000).emitWithAck(event, data)) as Record<string, unknown>;
  if (answer["ok"] !== true) throw new Error(`${event} was answered ${JSON.stringify(answer)}`);
  return answer;
}
