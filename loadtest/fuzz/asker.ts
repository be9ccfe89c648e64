/** Clients whose requests the hostile ends answer; every request must get some answer in time. */
import { RawClient } from "../../test/support/raw-client.ts";
import type { Answer } from "./input.ts";
import { type Live, signedToken } from "./parts.ts";
import type { Plans } from "./plans.ts";

/** Below the burst that one connection may send. */
const callsPerSession = 90;
/** The services' timeout, the relay's grace, and time for a busy machine. */
const answeredWithinMs = 12_000;

/** One call in so many goes to the honest service, with the hostile one as its shadow. */
const shadowedEach = 6;

interface Asking {
  readonly client: Promise<RawClient | undefined>;
  left: number;
  underWay: number;
}

export class Asker {
  readonly #url: URL;
  readonly #live: Live;
  readonly #plans: Plans;
  #current: Asking | undefined;
  readonly #open = new Set<RawClient>();

  constructor(options: { url: URL; live: Live; plans: Plans }) {
    this.#url = options.url;
    this.#live = options.live;
    this.#plans = options.plans;
  }

  /** Throws where the request gets no answer; any answer is right. */
  async ask({ asked, steps, patient }: Answer): Promise<void> {
    const number = this.#plans.add(steps);
    const prefix = patient ? "patient." : number % shadowedEach === 0 ? "shadow." : "";
    const asking = {
      call: async () => this.#request(`${prefix}hostile.${number}`, {}),
      connect: async () => this.#connect(number),
      subscribe: async () => this.#request("sync:subscribe", { channel: `asked:${number}` }),
    };
    const done = asking[asked]();
    const { promise: late, reject } = Promise.withResolvers<never>();
    const timer = setTimeout(
      () => reject(new Error(`a ${asked} had no answer within ${answeredWithinMs} ms`)),
      answeredWithinMs,
    );
    await Promise.race([done, late]).finally(() => {
      clearTimeout(timer);
      this.#plans.remove(number);
    });
  }

  /** Ends all sessions; the next request begins a new one. */
  leave(): void {
    this.#current = undefined;
    for (const client of this.#open) client.socket.destroy();
    this.#open.clear();
  }

  async #connect(number: number): Promise<void> {
    const token = signedToken(JSON.stringify({ sub: `hook-${number}`, exp: 4_102_444_800 }), this.#live.jwtSecret);
    const client = await this.#begin(token);
    client?.socket.destroy();
  }

  async #request(event: string, payload: object): Promise<void> {
    const asking = this.#session();
    asking.left--;
    asking.underWay++;
    const client = await asking.client;
    if (client && !client.socket.destroyed) {
      const answered = client.request(event, payload);
      await Promise.race([answered, client.closed]);
    }
    asking.underWay--;
    if (asking.left === 0 && asking.underWay === 0) client?.socket.destroy();
    if (client?.socket.destroyed !== false && this.#current === asking) this.#current = undefined;
  }

  #session(): Asking {
    if (!this.#current || this.#current.left === 0) {
      this.#current = { client: this.#begin(this.#live.value("token")), left: callsPerSession, underWay: 0 };
    }
    return this.#current;
  }

  /** @returns undefined where the handshake is refused or the connection breaks, which counts as an answer. */
  async #begin(token: string): Promise<RawClient | undefined> {
    const client = await RawClient.connect(this.#url, token).catch(() => undefined);
    if (!client) return undefined;
    this.#open.add(client);
    void client.closed.then(() => this.#open.delete(client));
    return client;
  }
}
