/** Plays conversations against the doors of a deployment. */
import { setTimeout as pause } from "node:timers/promises";
import { markFrame, request, frame, textFrame } from "./encode.ts";
import type { Conversation, Door, Step } from "./input.ts";
import { Link } from "./link.ts";
import { type Live, type LiveName, render } from "./parts.ts";

/** A server that has said nothing for so long has nothing more to say, or waits for the rest of a message. */
const silentMs = 1_000;
/** What comes behind the last good message of a conversation gets an answer at once, or none. */
const brokenMs = 100;
/** Nobody is slower to open a connection, but a server that hangs. */
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
  /** Frames that the server has handled for sure: those before a mark that it answered, or that closed the connection. */
  readonly frames: number;
  readonly requests: number;
  /** The connection was not opened, or its client not welcomed. */
  readonly refused: boolean;
}

export interface Place {
  readonly ports: Readonly<Record<Door, number>>;
  readonly live: Live;
  /** Given what the server tells one conversation: another may use it. */
  readonly learn: (name: LiveName, value: string) => void;
}

/** @param whenReady called when the connection is open, and at each step that says so. */
export async function play(
  conversation: Conversation,
  place: Place,
  whenReady: () => Promise<void> = async () => undefined,
): Promise<Played> {
  return new Playing(conversation, place, whenReady).play();
}

class Playing {
  readonly #conversation: Conversation;
  readonly #link: Link;
  readonly #live: Live;
  readonly #told = new Map<LiveName, string>();
  readonly #ports: Place["ports"];
  readonly #whenReady: () => Promise<void>;
  readonly #tell: Place["learn"];
  /** Not written yet. */
  #pending: Buffer[] = [];
  #writtenBytes = 0;
  #frames = 0;
  #requests = 0;
  /** Something was sent that need not be answered. */
  #isBroken = false;
  /** By number of the mark: the frames before it. */
  readonly #marks: number[] = [];
  /** Texts that had come when something was last written. */
  #heardBytes = 0;

  constructor(conversation: Conversation, { ports, live, learn }: Place, whenReady: () => Promise<void>) {
    this.#conversation = conversation;
    this.#tell = learn;
    this.#whenReady = whenReady;
    this.#ports = ports;
    this.#live = { jwtSecret: live.jwtSecret, value: (name) => this.#told.get(name) ?? live.value(name) };
    this.#link = new Link(ports[conversation.door]);
    this.#link.onText = (text) => this.#learn(text);
  }

  async play(): Promise<Played> {
    const link = this.#link;
    if (!(await this.#open())) {
      link.destroy();
      return { frames: 0, requests: 0, refused: true };
    }
    await this.#whenReady();
    for (const step of this.#conversation.steps) {
      if (link.closed || this.#isCut) break;
      await this.#take(step);
    }
    await this.#end();
    await this.#closePolling();
    const marked = this.#marks[link.marked - 1] ?? 0;
    // Of those behind the last answered mark one has closed the connection.
    const frames = link.closed && this.#frames > marked ? marked + 1 : marked;
    return { frames, requests: Math.min(this.#requests, link.answers), refused: false };
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
    this.#told.set("sameToken", token);
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
    await this.#link.until(() => this.#isAnswered, silentMs);
    await this.#whenReady();
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
    const isAnswered = await link.until(() => ending === "answered" && this.#isAnswered, silentMs);
    if (isAnswered && this.#isBroken) await link.until(() => false, brokenMs);
    link.destroy();
  }

  #learn(text: string): void {
    for (const [name, pattern] of patterns) {
      if (this.#told.has(name)) continue;
      const value = pattern.exec(text)?.[1];
      if (value === undefined) continue;
      this.#told.set(name, value);
      this.#tell(name, value);
    }
  }

  /** A polling session has no connection whose end ends it: nobody would miss it for 45 s. */
  async #closePolling(): Promise<void> {
    if (this.#conversation.opening !== "bare" || this.#conversation.door !== "public") return;
    this.#learn(this.#link.text);
    const sid = this.#told.get("sid");
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
