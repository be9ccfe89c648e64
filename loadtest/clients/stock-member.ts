/**
 * A member of a crowd on a stock Socket.IO client with its own reconnect logic. What the contract asks of stock clients is
 * added by hand: it presents the resume token and positions, and waits for `retryAfterMs`.
 */
import { io, type Socket } from "socket.io-client";
import type { ConnectRefusal } from "../../shared/protocol/codes.ts";
import type { Ack, Disconnect, Position, Resync, SubscribeAck, Welcome } from "../../shared/protocol/wire.ts";
import { Sequence } from "../checks/sequence.ts";
import type { Member } from "./crowd-member.ts";
import { type MemberSpec, type Tick, tickEvent } from "./crowd-messages.ts";
import type { MemberRecord, Witness } from "./crowd-witness.ts";

/** Where a refusal names no time to retry. */
const retryMs = 1_000;
const callWithinMs = 10_000;

export class StockMember implements Member {
  readonly sequences = new Map<string, Sequence>();
  readonly record: MemberRecord = { kind: "stock", node: undefined, lostAt: undefined, disturbedIn: undefined };
  readonly #positions = new Map<string, Position>();
  readonly #following = new Set<string>();
  readonly #spec: MemberSpec;
  readonly #token: () => Promise<string>;
  readonly #witness: Witness;
  #socket: Socket | undefined;
  #resumeToken: string | null = null;
  #left = false;

  constructor(spec: MemberSpec, token: () => Promise<string>, witness: Witness) {
    this.#spec = spec;
    this.#token = token;
    this.#witness = witness;
  }

  start(): void {
    const socket = io(this.#spec.url.replace("ws", "http"), {
      transports: ["websocket"],
      forceNew: true,
      auth: (present) => void this.#credentials().then(present),
    });
    this.#socket = socket;
    socket.on("sync:welcome", (welcome: Welcome) => {
      this.#resumeToken = welcome.resumeToken;
      this.#witness.welcomed(this.record, { ...welcome, moved: false });
      for (const channel of this.#spec.channels) this.#subscribe(channel);
    });
    socket.on("connect_error", (error: Error & { data?: ConnectRefusal }) => {
      // Without a refusal of the gateway, socket.io-client reconnects by itself.
      this.#witness.refused(this.record, error.data?.code ?? "transport");
      if (!error.data) return;
      if (!error.data.retryable) this.#resumeToken = null;
      setTimeout(() => this.#left || socket.connect(), error.data.retryAfterMs ?? retryMs);
    });
    socket.on("disconnect", () => {
      this.#following.clear();
      this.#witness.lost(this.record);
    });
    socket.on("sync:disconnect", ({ code }: Disconnect) => this.#witness.refused(this.record, code));
    socket.on("sync:resync", ({ channel, position }: Resync) => {
      this.#positions.set(channel, position);
      this.sequences.get(channel)?.resync(position.offset);
    });
    socket.on(tickEvent, (tick: Tick, meta: { channel: string; offset: number; prev?: number }) =>
      this.#take(meta.channel, tick, meta),
    );
  }

  get channels(): readonly string[] {
    return this.#spec.channels;
  }

  get connected(): boolean {
    return this.#following.size === this.#spec.channels.length;
  }

  async call(event: string): Promise<string> {
    if (!this.#socket?.connected) return "not_connected";
    try {
      const data = { board: 1, card: 17, column: "doing" };
      const ack = (await this.#socket.timeout(callWithinMs).emitWithAck(event, data)) as Ack<object>;
      return ack.ok ? "ok" : ack.error.code;
    } catch {
      return "no_answer";
    }
  }

  leave(): void {
    this.#left = true;
    this.#socket?.removeAllListeners();
    this.#socket?.disconnect();
  }

  async #credentials(): Promise<object> {
    return this.#resumeToken === null ? { token: await this.#token() } : { resume: this.#resumeToken };
  }

  #subscribe(channel: string): void {
    const socket = this.#socket;
    const position = this.#positions.get(channel);
    socket?.emit("sync:subscribe", { channel, ...(position && { position }) }, (ack: Ack<SubscribeAck>) => {
      if (!ack.ok) {
        this.#witness.refused(this.record, ack.error.code);
        setTimeout(() => socket.connected && this.#subscribe(channel), ack.error.retryAfterMs ?? retryMs);
        return;
      }
      const { epoch, offset } = ack.position;
      const sequence = this.sequences.get(channel);
      if (!sequence) this.sequences.set(channel, new Sequence(offset));
      else if (!ack.recovered) sequence.resync(offset);
      else {
        for (const publication of ack.publications) this.#take(channel, publication.data as Tick, publication);
        sequence.standAt(offset);
      }
      this.#positions.set(channel, { epoch, offset });
      this.#following.add(channel);
    });
  }

  #take(channel: string, tick: Tick, { offset, prev }: { offset: number; prev?: number }): void {
    if (this.sequences.get(channel)?.take(offset, prev) === false) return;
    const position = this.#positions.get(channel);
    if (position) this.#positions.set(channel, { epoch: position.epoch, offset });
    this.#witness.received(this.record, tick);
  }
}
