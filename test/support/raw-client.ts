/** A Socket.IO client on a bare socket: cheap in large numbers, and able to stop reading or to ignore pings. */
import type { Socket } from "node:net";
import type { ConnectRefusal } from "../../shared/protocol/codes.ts";
import type { Position, SubscribeAck, Welcome } from "../../shared/protocol/wire.ts";
import { type DialOptions, openRawWebsocket, ServerFrames, textFrame } from "./raw-websocket.ts";

export type OnEvent = (
  event: string,
  data: unknown,
  meta: { channel?: string; offset?: number; prev?: number },
) => void;

/** The gateway refused the handshake: the data of Socket.IO's `connect_error`. */
export class RefusedError extends Error {
  readonly refusal: ConnectRefusal;

  constructor(refusal: ConnectRefusal) {
    super(`${refusal.code}: ${refusal.message}`);
    this.refusal = refusal;
  }
}

export class RawClient {
  readonly socket: Socket;
  /** Resolves when the connection has ended and everything received has been read. */
  readonly closed: Promise<void>;
  onEvent: OnEvent = () => undefined;
  answersPings = true;
  readonly #frames = new ServerFrames();
  readonly #acks = new Map<number, (ack: unknown) => void>();
  #lastAckId = 0;
  #whenWelcome: (welcome: Welcome) => void = () => undefined;
  #whenRefused: (error: RefusedError) => void = () => undefined;
  #welcome: Welcome | undefined;

  private constructor(socket: Socket) {
    this.socket = socket;
    this.closed = new Promise((resolve) => socket.once("close", () => resolve()));
    // Tests cut connections on purpose and see them as closed.
    socket.on("error", () => socket.destroy());
    socket.on("data", (chunk: Buffer) => {
      for (const text of this.#frames.push(chunk)) this.#receive(text);
    });
  }

  /**
   * Resolves once the client is welcome; the caller destroys the socket.
   *
   * @throws RefusedError where the gateway refuses the handshake; NotOpenedError or another error where the connection ends
   */
  static async connect(
    url: URL,
    token: string | undefined,
    auth: object = {},
    dial: DialOptions = {},
  ): Promise<RawClient> {
    const client = new RawClient(await openRawWebsocket(url, dial));
    const welcome = new Promise<Welcome>((resolve, reject) => {
      client.#whenWelcome = resolve;
      client.#whenRefused = reject;
      void client.closed.then(() => reject(new Error("closed before the welcome")));
    });
    client.socket.write(textFrame(`40${JSON.stringify({ token, ...auth })}`));
    try {
      client.#welcome = await welcome;
    } catch (error) {
      client.socket.destroy();
      throw error;
    }
    return client;
  }

  get welcome(): Welcome {
    if (!this.#welcome) throw new Error("not welcomed");
    return this.#welcome;
  }

  /** Resolves with the ack of a packet that the caller writes itself. */
  async acked(id: number): Promise<unknown> {
    return new Promise((resolve) => this.#acks.set(id, resolve));
  }

  /** @param onAck called as the ack is read: before any event that follows it. */
  async request(event: string, payload: object, onAck?: (ack: unknown) => void): Promise<unknown> {
    const id = ++this.#lastAckId;
    return new Promise((resolve) => {
      this.#acks.set(id, (ack) => {
        onAck?.(ack);
        resolve(ack);
      });
      this.socket.write(textFrame(`42${id}${JSON.stringify([event, payload])}`));
    });
  }

  /** @param onAck as for {@link request}. */
  async subscribe(
    channel: string,
    position?: Position,
    onAck: (ack: SubscribeAck) => void = () => undefined,
  ): Promise<SubscribeAck> {
    type Answer = (SubscribeAck & { ok: true }) | { ok: false };
    const request = { channel, ...(position && { position }) };
    const ack = (await this.request("sync:subscribe", request, (answer) => {
      if ((answer as Answer).ok) onAck(answer as SubscribeAck);
    })) as Answer;
    if (!ack.ok) throw new Error(`not subscribed: ${JSON.stringify(ack)}`);
    return ack;
  }

  #receive(text: string): void {
    if (text === "2") {
      if (this.answersPings) this.socket.write(textFrame("3"));
    } else if (text.startsWith("42")) {
      const [event, data, meta] = JSON.parse(text.slice(2)) as [string, unknown, Parameters<OnEvent>[2] | undefined];
      if (event === "sync:welcome") this.#whenWelcome(data as Welcome);
      else this.onEvent(event, data, meta ?? {});
    } else if (text.startsWith("44")) {
      this.#whenRefused(new RefusedError((JSON.parse(text.slice(2)) as { data: ConnectRefusal }).data));
    } else if (text.startsWith("43")) {
      const start = text.indexOf("[");
      const id = Number(text.slice(2, start));
      const [ack] = JSON.parse(text.slice(start)) as [unknown];
      this.#acks.get(id)?.(ack);
      this.#acks.delete(id);
    }
  }
}
