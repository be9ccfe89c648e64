/** Plays conversations on the ports of a deployment. */
import { setTimeout as pause } from "node:timers/promises";
import { markFrame, request, frame, textFrame } from "./encode.ts";
import type { Conversation, Door, Step } from "./input.ts";
import { Link } from "./link.ts";
import { type Live, type LiveName, render } from "./parts.ts";

/** A server that is silent for so long has answered everything, or waits for the rest of a message. */
const silentMs = 1_000;
/**
 * Each of its requests is well framed and gets an answer: a busy server is only late. A conversation that gives up counts for nothing, and the
 * next one adds to what the server has to do: on a busy machine most of them would.
 */
const lateMs = 10_000;
/** A broken message behind the last good one gets its answer within this time, or none. */
const brokenMs = 100;
/** Only a server that hangs takes longer to open a connection. */
const openWithinMs = 10_000;
const listenMs = 400;
const upgrade = [
  "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1",
  "host: localhost",
  "connection: Upgrade",
  "upgrade: websocket",
  "sec-websocket-version: 13",
  "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
].join("\r\n");

export interface Played {
  /** Frames that the server has certainly handled: those before an answered mark, and the one that closed the connection. */
  readonly frames: number;
  readonly requests: number;
  /** The connection did not open, or the client was not welcome. */
  readonly refused: boolean;
}

export interface Place {
  readonly ports: Readonly<Record<Door, number>>;
  readonly live: Live;
  /** Called with values that the server sends in one conversation; another one may use them. */
  readonly learn: (name: LiveName, value: string) => void;
}

export interface PlayOptions {
  /** Measures the conversation: called when the connection is open, and at each `ready` step. */
  readonly whenReady?: () => Promise<void>;
  /** No further connection opens from then on; by `performance.now()`. */
  readonly deadline?: number;
}

/**
 * A server closes the connection with the refusal of a request. The requests behind it are then sent again on another
 * connection, unless the conversation is measured.
 */
export async function play(conversation: Conversation, place: Place, options: PlayOptions = {}): Promise<Played> {
  return new Playing(conversation, place, options).play();
}

class Playing {
  readonly #conversation: Conversation;
  #link: Link;
  readonly #live: Live;
  readonly #learned = new Map<LiveName, string>();
  readonly #ports: Place["ports"];
  readonly #whenReady: (() => Promise<void>) | undefined;
  readonly #deadline: number;
  readonly #onLearned: Place["learn"];
  /** Steps taken. */
  #at = 0;
  /** Steps of the present connection that get an answer. */
  #asked: number[] = [];
  /** Encoded and not written yet. */
  #pending: Buffer[] = [];
  #writtenBytes = 0;
  #frames = 0;
  /** Requests of the present connection that must be answered. */
  #requests = 0;
  /** Requests that were answered on earlier connections. */
  #answered = 0;
  /** Something was sent that may stay unanswered. */
  #isBroken = false;
  /** The number of frames before each mark. */
  readonly #marks: number[] = [];
  /** Bytes received at the time of the last write. */
  #heardBytes = 0;

  constructor(conversation: Conversation, { ports, live, learn }: Place, options: PlayOptions) {
    this.#conversation = conversation;
    this.#onLearned = learn;
    this.#whenReady = options.whenReady;
    this.#deadline = options.deadline ?? Infinity;
    this.#ports = ports;
    this.#live = { jwtSecret: live.jwtSecret, value: (name) => this.#learned.get(name) ?? live.value(name) };
    this.#link = this.#newLink();
  }

  async play(): Promise<Played> {
    if (!(await this.#open())) {
      this.#link.destroy();
      return { frames: 0, requests: 0, refused: true };
    }
    await this.#whenReady?.();
    do {
      await this.#takeSteps();
      await this.#end();
      this.#answered += Math.min(this.#requests, this.#link.answers);
    } while (this.#reconnect());
    await this.#closePolling();
    const { marked, closed } = this.#link;
    const handled = this.#marks[marked - 1] ?? 0;
    // One of the frames behind the last answered mark closed the connection.
    const frames = closed && this.#frames > handled ? handled + 1 : handled;
    return { frames, requests: this.#answered, refused: false };
  }

  #newLink(): Link {
    const link = new Link(this.#ports[this.#conversation.door]);
    link.onText = (text) => this.#learn(text);
    return link;
  }

  async #takeSteps(): Promise<void> {
    const { steps } = this.#conversation;
    for (let step = steps[this.#at]; step && !this.#link.closed && !this.#isCut; step = steps[this.#at]) {
      if ("request" in step || "send" in step) this.#asked.push(this.#at);
      this.#at++;
      await this.#take(step);
    }
  }

  /** Opens another connection for the requests that the server left unanswered. @returns false where none are left. */
  #reconnect(): boolean {
    const { opening, ending, cutAtByte, steps } = this.#conversation;
    const { answers, closedByServer } = this.#link;
    if (performance.now() > this.#deadline) return false;
    if (this.#whenReady || opening !== "bare" || ending !== "answered" || cutAtByte !== undefined) return false;
    // A step that closes the connection without an answer is not repeated.
    const next = answers > 0 ? (this.#asked[answers] ?? this.#at) : (this.#asked[0] ?? this.#at) + 1;
    if (!closedByServer || next >= steps.length) return false;
    this.#at = next;
    this.#asked = [];
    this.#requests = 0;
    this.#isBroken = false;
    this.#pending = [];
    this.#link = this.#newLink();
    return true;
  }

  get #isCut(): boolean {
    const { cutAtByte } = this.#conversation;
    return cutAtByte !== undefined && this.#writtenBytes >= cutAtByte;
  }

  async #open(): Promise<boolean> {
    const { opening } = this.#conversation;
    const link = this.#link;
    if (opening === "bare") return true;
    await link.write(Buffer.from(`${upgrade}\r\n\r\n`));
    await link.until(() => link.texts > 0, openWithinMs);
    if (link.texts === 0 || opening === "websocket") return link.texts > 0;
    const token = this.#live.value("token");
    this.#learned.set("sameToken", token);
    await link.write(textFrame(Buffer.from(`40{"token":"${token}"}`)));
    return link.until(() => link.text.startsWith('42["sync:welcome"'), openWithinMs);
  }

  async #take(step: Step): Promise<void> {
    const live = this.#live;
    if ("text" in step) {
      this.#frames++;
      this.#pending.push(textFrame(render(step.text, live)));
    } else if ("opcode" in step) {
      this.#frames++;
      this.#pending.push(frame(step, render(step.payload, live)));
    } else if ("request" in step) {
      const { framing } = step.request;
      if (framing === undefined || framing === "chunked") this.#requests++;
      else this.#isBroken = true;
      this.#pending.push(request(step.request, live));
    } else if ("send" in step) {
      this.#isBroken = true;
      this.#pending.push(render(step.send, live));
    } else if ("mark" in step) {
      this.#mark();
    } else {
      await this.#flush();
      if ("pauseMs" in step) await pause(step.pauseMs);
      else if ("ready" in step) await this.#getReady();
      else if ("deaf" in step) this.#link.stopReading();
      else await this.#listen();
    }
  }

  #mark(): void {
    this.#marks.push(this.#frames);
    this.#pending.push(markFrame(this.#marks.length));
  }

  async #flush(): Promise<void> {
    let bytes = Buffer.concat(this.#pending);
    this.#pending = [];
    const { cutAtByte, segmentBytes } = this.#conversation;
    if (cutAtByte !== undefined) bytes = bytes.subarray(0, Math.max(0, cutAtByte - this.#writtenBytes));
    if (bytes.length === 0) return;
    this.#writtenBytes += bytes.length;
    this.#heardBytes = this.#link.receivedBytes;
    await this.#link.write(bytes, segmentBytes);
  }

  async #listen(): Promise<void> {
    const heard = this.#heardBytes;
    await this.#link.until(() => this.#link.receivedBytes > heard, listenMs);
    if (this.#conversation.opening === "bare") this.#learn(this.#link.text);
  }

  async #getReady(): Promise<void> {
    if (this.#conversation.opening !== "bare") this.#mark();
    await this.#flush();
    const unmeasuredMs = this.#conversation.opening === "bare" ? this.#patienceMs : listenMs;
    await this.#link.until(() => this.#isAnswered, this.#whenReady ? silentMs : unmeasuredMs);
    await this.#whenReady?.();
  }

  /** For answers over HTTP. */
  get #patienceMs(): number {
    return this.#isBroken ? silentMs : lateMs;
  }

  get #isAnswered(): boolean {
    const { answers, marked } = this.#link;
    return this.#conversation.opening === "bare" ? answers >= this.#requests : marked === this.#marks.length;
  }

  async #end(): Promise<void> {
    const link = this.#link;
    const { opening, ending } = this.#conversation;
    if (ending === "answered" && opening !== "bare") this.#mark();
    await this.#flush();
    if (ending === "reset") {
      link.reset();
      return;
    }
    if (ending === "half-close") link.halfClose();
    const waitMs = ending === "answered" && opening === "bare" ? this.#patienceMs : silentMs;
    const isAnswered = await link.until(() => ending === "answered" && this.#isAnswered, waitMs);
    if (isAnswered && this.#isBroken) await link.until(() => false, brokenMs);
    link.destroy();
  }

  #learn(text: string): void {
    for (const [name, pattern] of patterns) {
      if (this.#learned.has(name)) continue;
      const value = pattern.exec(text)?.[1];
      if (value === undefined) continue;
      this.#learned.set(name, value);
      this.#onLearned(name, value);
    }
  }

  /** No connection ends with a polling session: without this the gateway would keep it for 45 s. */
  async #closePolling(): Promise<void> {
    if (this.#conversation.opening !== "bare" || this.#conversation.door !== "public") return;
    this.#learn(this.#link.text);
    const sid = this.#learned.get("sid");
    if (sid === undefined) return;
    const link = new Link(this.#ports.public);
    const head = `POST /socket.io/?EIO=4&transport=polling&sid=${sid} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1`;
    await link.write(Buffer.from(`${head}\r\nconnection: close\r\n\r\n1`));
    await link.until(() => link.answers > 0, silentMs);
    link.destroy();
  }
}

const patterns: readonly (readonly [LiveName, RegExp])[] = [
  ["sid", /"sid":"([^"]{1,40})"/],
  ["resume", /"resumeToken":"([^"]+)"/],
  ["grant", /"grant":"([^"]+)"/],
  ["epoch", /"channel":"fuzz:1","position":\{"epoch":"([^"]{1,64})"/],
];
