import { CommandWindow } from "./command-window.ts";
import { commandTimeoutMs, cutOff, isTimeout, primaryOf, type RedisClient } from "./connect.ts";
import { refusalOf } from "./refusals.ts";
import type { Script } from "./scripts.ts";
import { orBrokerUnavailable } from "./unavailable.ts";

type Argument = string | number;

/** Not executed, whatever it was: its keys live elsewhere, or are on their way there, or the server has forgotten the script twice. */
const notExecuted = /^(MOVED|ASK|TRYAGAIN|NOSCRIPT)\b/;

/** Commands to one Redis, a cluster included, within the bounds of {@link CommandWindow} for each primary. */
export class RedisCommands {
  readonly client: RedisClient;
  readonly #onWrongServer: () => void;
  readonly #windows = new Map<string, CommandWindow>();
  /** Keys whose last command is sent once more: what follows waits behind it, so that their order stays. */
  readonly #redirected = new Map<string, Promise<unknown>>();

  /** @param onWrongServer a server refuses everything: the connection to it has been cut, and others to it are of no use either. */
  constructor(client: RedisClient, onWrongServer: () => void = () => undefined) {
    this.client = client;
    this.#onWrongServer = onWrongServer;
  }

  /** Commands without an answer yet. */
  get pending(): number {
    return [...this.#windows.values()].reduce((sum, window) => sum + window.commands, 0);
  }

  /** Answers arrive: false while a primary owes some and gives none. */
  get answering(): boolean {
    return ![...this.#windows.values()].some((window) => window.stalled);
  }

  stop(): void {
    for (const window of this.#windows.values()) window.stop();
    this.client.disconnect();
  }

  /**
   * Runs a command or a defined script; the first argument is a key, or a topic. Answered within about
   * {@link commandTimeoutMs}.
   * @throws TidegateError `broker_unavailable`: refused before it was sent, or the outcome is unknown.
   */
  async run<Reply>(name: string, ...keysAndArguments: Argument[]): Promise<Reply> {
    const key = String(keysAndArguments[0]);
    const primary = primaryOf(this.client, key);
    const window = this.#window(primary);
    const bytes = keysAndArguments.reduce<number>((sum, value) => sum + String(value).length, 0);
    window.enter(bytes);
    let answered = false;
    try {
      const reply = await orBrokerUnavailable(this.#send(name, key, keysAndArguments));
      answered = true;
      return reply as Reply;
    } catch (error) {
      const cause = (error as Error).cause ?? error;
      answered = cause instanceof Error && cause.name === "ReplyError";
      const isWrongServer = refusalOf(cause)?.remedy === "reconnect";
      // What this connection still holds must not be executed later.
      if (isWrongServer || isTimeout(cause)) cutOff(this.client, primary);
      if (isWrongServer) this.#onWrongServer();
      throw error;
    } finally {
      window.leave(bytes, answered);
    }
  }

  async #send(name: string, key: string, keysAndArguments: Argument[]): Promise<unknown> {
    const before = this.#redirected.get(key);
    if (before) return this.#sendAlone(name, key, keysAndArguments, before);
    try {
      return await (this.client as unknown as Record<string, Script<unknown>>)[name]?.(...keysAndArguments);
    } catch (error) {
      if (!notExecuted.test((error as Error).message)) throw error;
      return await this.#sendAlone(name, key, keysAndArguments, this.#redirected.get(key));
    }
  }

  /** In a pipeline of its own, which the client takes to where the key is now, the text of a script included. */
  async #sendAlone(
    name: string,
    key: string,
    keysAndArguments: Argument[],
    before?: Promise<unknown>,
  ): Promise<unknown> {
    const deadline = performance.now() + commandTimeoutMs;
    const reply = (before ?? Promise.resolve()).then(async () => {
      if (performance.now() > deadline) throw new Error("Command waited too long behind a redirection");
      const [[error, value] = []] = (await this.client.pipeline([[name, ...keysAndArguments]]).exec()) ?? [];
      if (error) throw error;
      return value;
    });
    const settled = reply.then(
      () => undefined,
      () => undefined,
    );
    this.#redirected.set(key, settled);
    try {
      return await reply;
    } finally {
      if (this.#redirected.get(key) === settled) this.#redirected.delete(key);
    }
  }

  #window(primary: string): CommandWindow {
    let window = this.#windows.get(primary);
    if (!window) {
      for (const [idle, { commands }] of this.#windows) if (commands === 0) this.#windows.delete(idle);
      window = new CommandWindow();
      this.#windows.set(primary, window);
    }
    return window;
  }
}
