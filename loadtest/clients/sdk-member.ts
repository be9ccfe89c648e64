/** A member of a crowd that uses the SDK as an application does. */
import { type Client, connect, TidegateError } from "../../client/src/index.ts";
import { Sequence } from "../checks/sequence.ts";
import type { Member } from "./crowd-member.ts";
import { type MemberSpec, type Tick, tickEvent } from "./crowd-messages.ts";
import type { MemberRecord, Witness } from "./crowd-witness.ts";

interface Seen {
  readonly offset: number;
  readonly prev?: number;
}

export class SdkMember implements Member {
  readonly sequences = new Map<string, Sequence>();
  readonly record: MemberRecord = { kind: "sdk", node: undefined, lostAt: undefined, disturbedIn: undefined };
  readonly #spec: MemberSpec;
  readonly #token: () => Promise<string>;
  readonly #witness: Witness;
  #client: Client | undefined;

  constructor(spec: MemberSpec, token: () => Promise<string>, witness: Witness) {
    this.#spec = spec;
    this.#token = token;
    this.#witness = witness;
  }

  start(): void {
    const client = connect({ url: this.#spec.url.replace("ws", "http"), token: this.#token });
    this.#client = client;
    let wasConnected = false;
    client.onState((state) => {
      if (state.status === "connected") {
        const moved = wasConnected && state.node !== this.record.node;
        if (!wasConnected || moved) this.#witness.welcomed(this.record, { ...state, moved });
      } else if (state.status !== "connecting") {
        if (wasConnected) this.#witness.lost(this.record);
        if (state.reason.code !== "connection_lost") this.#witness.refused(this.record, state.reason.code);
      }
      wasConnected = state.status === "connected";
    });
    for (const name of this.#spec.channels) this.#follow(client, name);
  }

  get channels(): readonly string[] {
    return this.#spec.channels;
  }

  get connected(): boolean {
    return this.#client?.state.status === "connected";
  }

  async call(event: string): Promise<string> {
    try {
      await this.#client?.call(event, { board: 1, card: 17, column: "doing" }, { timeoutMs: 10_000 });
      return "ok";
    } catch (error) {
      if (error instanceof TidegateError) return error.code;
      throw error;
    }
  }

  leave(): void {
    this.#client?.close();
  }

  #follow(client: Client, name: string): void {
    const channel = client.channel(name);
    /** Publications that come before the promise of the subscription settles. */
    const early: Seen[] = [];
    channel.on(tickEvent, (data, meta) => {
      const seen = meta as Seen;
      const sequence = this.sequences.get(name);
      if (!sequence) early.push(seen);
      else if (!sequence.take(seen.offset, seen.prev)) return;
      this.#witness.received(this.record, data as Tick);
    });
    channel.onResync(({ position }) => this.sequences.get(name)?.resync(position.offset));
    channel.onEnd(({ code }) => this.#witness.refused(this.record, code));
    channel.subscribe().then(
      ({ position }) => {
        const sequence = new Sequence(position.offset);
        this.sequences.set(name, sequence);
        for (const { offset, prev } of early) sequence.take(offset, prev);
      },
      (error: unknown) => this.#witness.refused(this.record, error instanceof TidegateError ? error.code : "bug"),
    );
  }
}
