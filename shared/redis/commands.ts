import { type Argument, bytesOf, cutOff, isTimeout, primaryOf, type RedisClient, send } from "./client.ts";
import { CommandWindow } from "./command-window.ts";
import { refusalOf } from "./refusals.ts";
import type { Script } from "./scripts.ts";
import { commandTimeoutMs } from "./servers.ts";
import { orBrokerUnavailable } from "./unavailable.ts";

/** The server did not execute the command: its keys live elsewhere or are moving, or the server lacks the script. */
const notExecuted = /^(MOVED|ASK|TRYAGAIN|NOSCRIPT)\b/;

/** Sends commands to one Redis or cluster, within the bounds of one {@link CommandWindow} per primary. */
export class RedisCommands {
  readonly client: RedisClient;
  readonly #onWrongServer: () => void;
  readonly #windows = new Map<string, CommandWindow>();
  /** Keys whose last command is being resent. Later commands for the key wait behind it, so that their order stays. */
  readonly #redirected = new Map<string, Promise<unknown>>();

  /** @param onWrongServer called after the connection to a server that refuses everything was cut. */
  constructor(client: RedisClient, onWrongServer: () => void = () => undefined) {
    this.client = client;
    this.#onWrongServer = onWrongServer;
  }

  /** Number of commands without an answer. */
  get pending(): number {
    return [...this.#windows.values()].reduce((sum, window) => sum + window.commands, 0);
  }

  /** False while a primary leaves commands unanswered. */
  get answering(): boolean {
    return ![...this.#windows.values()].some((window) => window.stalled);
  }

  stop(): void {
    for (const window of this.#windows.values()) window.stop();
    this.client.disconnect();
  }

  /**
   * Runs a script, or a command by its name. The first argument is a key or a topic. Settles within about
   * {@link commandTimeoutMs}.
   * @throws TidegateError `broker_unavailable`: the command was refused before it was sent, or its outcome is unknown.
   */
  async run<Reply>(command: string | Script<Reply>, ...keysAndArguments: Argument[]): Promise<Reply> {
    const name = typeof command === "string" ? command : command.name;
    const key = String(keysAndArguments[0]);
    const primary = primaryOf(this.client, key);
    const window = this.#window(primary);
    const bytes = bytesOf(keysAndArguments);
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
      // Commands that this connection still buffers must not run later.
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
      return await send(this.client, name, keysAndArguments);
    } catch (error) {
      if (!notExecuted.test((error as Error).message)) throw error;
      return await this.#sendAlone(name, key, keysAndArguments, this.#redirected.get(key));
    }
  }

  /** Uses a pipeline of its own: the client routes it to the key's current server and sends the script's text if needed. */
  async #sendAlone(
    name: string,
    key: string,
    keysAndArguments: Argument[],
    before?: Promise<unknown>,
  ): Promise<unknown> {
    const deadline = performance.now() + commandTimeoutMs;
    const reply = (before ?? Promise.resolve()).then(async () => {
      if (performance.now() > deadline) throw new Error("the command waited too long behind a redirection");
      const [[error, value] = []] = (await this.client.pipeline([[name, ...keysAndArguments]]).exec()) ?? [];
      if (error) throw error;
      return value;
    });
    const settled = reply.catch(() => undefined);
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
