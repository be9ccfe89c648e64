/** One keep-alive connection that sends webhooks, one at a time. Does as little as it can: it shares the machine with what it measures. */
import { createHmac, createSecretKey, type KeyObject } from "node:crypto";
import { connect, type Socket } from "node:net";
import type { HookBody } from "./load-messages.ts";

export interface SenderOptions {
  readonly port: number;
  readonly secret: string;
  readonly target: string;
  /** Members of the body that are the same in each webhook. */
  readonly group: string;
  readonly tenant: string;
  readonly filler: string;
  /** Of this connection alone. */
  readonly keys: readonly string[];
  /** @param status 0: the connection broke. @param at when the webhook was due */
  readonly onAnswer: (status: number, at: number) => void;
}

const contentLength = /\r\ncontent-length: *(\d+)/i;
const closes = /\r\nconnection: *close/i;
const reconnectMs = 20;

export class Sender {
  readonly #options: SenderOptions;
  readonly #key: KeyObject;
  readonly #head: string;
  /** By key: webhooks of it that were accepted. */
  readonly #accepted: number[];
  #turn = -1;
  #socket: Socket | undefined;
  #received = "";
  /** When the webhook under way was due. */
  #at = 0;
  #isIdle = true;

  constructor(options: SenderOptions) {
    this.#options = options;
    this.#key = createSecretKey(Buffer.from(options.secret));
    const headers = ["host: hooks", "content-type: application/json", "user-agent: GitHub-Hookshot/044aadd"];
    this.#head = `POST ${options.target} HTTP/1.1\r\n${headers.join("\r\n")}\r\n`;
    this.#accepted = options.keys.map(() => 0);
  }

  get isIdle(): boolean {
    return this.#isIdle;
  }

  /** Call while idle. @param at when it is due, Unix ms */
  send(at: number): void {
    const { keys, group, tenant, filler } = this.#options;
    this.#isIdle = false;
    this.#at = at;
    this.#turn = (this.#turn + 1) % keys.length;
    const key = keys[this.#turn] ?? "";
    const n = (this.#accepted[this.#turn] ?? 0) + 1;
    const body = JSON.stringify({ group, key, tenant, n, at, filler } satisfies HookBody & { filler: string });
    const signature = createHmac("sha256", this.#key).update(body).digest("hex");
    const own = `x-github-delivery: ${key}-${n}\r\nx-hub-signature-256: sha256=${signature}\r\ncontent-length: ${body.length}`;
    this.#open().write(`${this.#head}${own}\r\n\r\n${body}`, "latin1");
  }

  stop(): void {
    this.#socket?.destroy();
  }

  #open(): Socket {
    if (this.#socket) return this.#socket;
    const socket = connect({ port: this.#options.port, host: "127.0.0.1", noDelay: true });
    this.#socket = socket;
    socket.setEncoding("latin1");
    socket.on("data", (text: string) => this.#read(text));
    // The close follows, and counts it.
    socket.on("error", () => undefined);
    socket.on("close", () => this.#closed(socket));
    return socket;
  }

  #closed(socket: Socket): void {
    if (this.#socket !== socket) return;
    this.#socket = undefined;
    this.#received = "";
    // A server that refuses connections would be asked without a pause.
    if (!this.#isIdle) setTimeout(() => this.#answered(0), reconnectMs);
  }

  #read(text: string): void {
    this.#received += text;
    const headEnd = this.#received.indexOf("\r\n\r\n");
    if (headEnd === -1) return;
    const head = this.#received.slice(0, headEnd);
    const bytes = headEnd + 4 + Number(contentLength.exec(head)?.[1] ?? 0);
    if (this.#received.length < bytes) return;
    this.#received = this.#received.slice(bytes);
    const status = Number(head.slice(9, 12));
    if (closes.test(head)) {
      this.#socket?.destroy();
      this.#socket = undefined;
      this.#received = "";
    }
    this.#answered(status);
  }

  #answered(status: number): void {
    // A webhook that was not accepted is sent again under its id, in the next turn of its key.
    if (status >= 200 && status < 300) this.#accepted[this.#turn] = (this.#accepted[this.#turn] ?? 0) + 1;
    this.#isIdle = true;
    this.#options.onAnswer(status, this.#at);
  }
}
