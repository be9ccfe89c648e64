/** The application of the model: it subscribes and calls, and checks what the client delivers and sends on its behalf. */
import { deepEqual, equal, ok } from "node:assert/strict";
import type { Channel, ClientState, TidegateError } from "../../client/src/index.ts";
import type { Client } from "../../client/src/client.ts";
import type { Position } from "../../shared/protocol/wire.ts";
import type { ModelConnection } from "./client-model-connection.ts";
import type { Violations } from "./client-model-violations.ts";

export const channelNames = ["board:1", "board:2"] as const;
export type ChannelName = (typeof channelNames)[number];
export const maxWaitingCalls = 3;

interface MadeCall {
  readonly number: number;
  readonly repeat: boolean;
  /** Made while not connected, and not sent yet. */
  waiting: boolean;
  sends: number;
  /** The gateway refused it before a service received it: the client may send it again. */
  limited: boolean;
  settled: number;
}

interface Followed {
  readonly channel: Channel;
  wanted: boolean;
  /** How often the application has subscribed. */
  subscribes: number;
  /** The last position the client reported, if the next publication must follow it. */
  last: Position | null;
  /** Called once, inside the next delivery. */
  whenDelivered: (() => void) | undefined;
}

/** What the application's checks read of the gateway. */
export interface GatewayView {
  /** New calls must go there. */
  readonly newest: ModelConnection | undefined;
  end(name: string): Position;
  /** Whether a connection other than the one that resyncs still brings all that the application lacks. */
  bridgedElsewhere(name: string): boolean;
}

export class ModelApplication {
  readonly calls: MadeCall[] = [];
  readonly subscribes: { settled: number }[] = [];
  readonly followed = new Map<string, Followed>();
  /** The gateway sends `sync:subscribed` for this channel, and the client has not reported it yet. */
  subscribedByServer: ChannelName | null = null;
  closed = false;
  /** To the user. */
  readonly messages = { sent: 0, got: 0 };
  /** How often each ephemeral publication arrived. */
  readonly #hints: number[] = [];
  readonly #client: Client;
  readonly #gateway: GatewayView;
  readonly #violations: Violations;
  #lastFirstSend = -1;

  constructor(client: Client, gateway: GatewayView, violations: Violations) {
    this.#client = client;
    this.#gateway = gateway;
    this.#violations = violations;
    client.onState((state) => violations.expect(() => this.#stateChanged(state)));
    client.onMessage("note", () => void this.messages.got++);
    client.onSubscribed((channel) => {
      const followed = this.of(channel.name);
      violations.expect(() => equal(followed.wanted, false));
      followed.wanted = true;
      followed.subscribes++;
      followed.last = channel.position;
      // The model's own object, which listens, takes the subscription over.
      void followed.channel.subscribe();
      channel.unsubscribe();
    });
    for (const name of channelNames) this.#follow(name);
  }

  of(name: string): Followed {
    const followed = this.followed.get(name);
    if (!followed) throw new Error(`no such channel in this model: ${name}`);
    return followed;
  }

  subscribe(name: ChannelName, fromStart: boolean): void {
    const followed = this.of(name);
    const start = { epoch: this.#gateway.end(name).epoch, offset: 0 };
    const subscribe = { settled: 0 };
    this.subscribes.push(subscribe);
    const settled = (): void => void subscribe.settled++;
    const fresh = !followed.wanted;
    if (fresh) followed.last = fromStart ? start : null;
    const number = fresh ? ++followed.subscribes : followed.subscribes;
    followed.wanted = !this.closed;
    followed.channel.subscribe(fromStart ? { position: start } : {}).then(({ recovered, position }) => {
      settled();
      if (fresh && followed.subscribes === number && !recovered) followed.last = position;
    }, settled);
  }

  unsubscribe(name: ChannelName): void {
    this.of(name).wanted = false;
    this.of(name).channel.unsubscribe();
  }

  whenDelivered(name: ChannelName, act: () => void): void {
    this.of(name).whenDelivered = act;
  }

  call(repeat: boolean, withinMs: number): void {
    const number = this.calls.length;
    const call: MadeCall = { number, repeat, waiting: false, sends: 0, limited: false, settled: 0 };
    this.calls.push(call);
    const options = repeat ? ({ id: `id-${number}`, repeat: true, withinMs } as const) : { withinMs };
    const promise = this.#client.call("edit", { number }, options);
    call.waiting = call.sends === 0;
    const { newest } = this.#gateway;
    if (newest && !newest.limited && !this.closed) ok(!call.waiting);
    const settled = (check: () => void): void => {
      this.#violations.expect(check);
      call.settled++;
      call.waiting = false;
    };
    promise.then(
      (data) =>
        settled(() => {
          deepEqual(data, { number });
          ok(call.sends > 0);
        }),
      ({ code }: TidegateError) =>
        settled(() => {
          if (code === "queue_full" || code === "not_connected") equal(call.sends, 0);
        }),
    );
  }

  /** The gateway is to send an ephemeral publication. Returns its id. */
  expectHint(): number {
    return this.#hints.push(0) - 1;
  }

  /** A call reached the gateway. */
  callSent(connection: ModelConnection, args: readonly unknown[]): void {
    const [{ number }, options] = args as [{ number: number }, { id?: string } | undefined];
    const call = this.calls[number];
    if (!call) throw new Error("the client sent a call that the application has not made");
    this.#violations.expect(() => {
      equal(options?.id, call.repeat ? `id-${number}` : undefined);
      equal(call.settled, 0);
      equal(connection, this.#gateway.newest);
      if (call.sends > 0) ok(call.repeat || call.limited);
      else ok(number > this.#lastFirstSend);
    });
    call.limited = false;
    if (call.sends++ === 0) this.#lastFirstSend = number;
    call.waiting = false;
  }

  /** A subscribe reached the gateway. Returns the number of the application's subscribe that it carries out. */
  subscribeSent(connection: ModelConnection, name: string, position: Position | undefined): number {
    const { wanted, last, subscribes } = this.of(name);
    if (!wanted && name === this.subscribedByServer) return subscribes + 1;
    // Until the answer the gateway sends nothing of it.
    connection.live.delete(name);
    this.#violations.expect(() => {
      ok(wanted);
      equal(connection, this.#gateway.newest);
      if (last !== null) deepEqual(position, last);
    });
    return subscribes;
  }

  /** What must hold between two moves. */
  check(): void {
    ok(this.calls.filter(({ waiting }) => waiting).length <= maxWaitingCalls);
    for (const { settled } of [...this.calls, ...this.subscribes]) ok(settled <= 1);
    for (const got of this.#hints) ok(got <= 1);
    equal(this.messages.got, this.messages.sent);
  }

  #follow(name: ChannelName): void {
    const channel = this.#client.channel(name);
    const followed: Followed = { channel, wanted: false, subscribes: 0, last: null, whenDelivered: undefined };
    this.followed.set(name, followed);
    channel.on("moved", (data, meta) => {
      const offset = meta.offset ?? -1;
      this.#violations.expect(() => {
        ok(followed.wanted && !this.closed);
        equal(data, offset);
        const { last } = followed;
        deepEqual(channel.position, { epoch: last?.epoch ?? channel.position?.epoch, offset });
        if (last !== null) equal(offset, last.offset + 1);
      });
      followed.last = channel.position;
      const { whenDelivered } = followed;
      followed.whenDelivered = undefined;
      whenDelivered?.();
    });
    channel.on("hint", (id) => this.#heard(id as number));
    channel.onResync(({ position }) => {
      const bridged = this.#gateway.bridgedElsewhere(name);
      // Without a loss there is no resync.
      this.#violations.expect(() => ok(!bridged || followed.last?.epoch !== position.epoch));
      followed.last = position;
    });
    channel.onEnd(() => (followed.wanted = false));
  }

  #stateChanged(state: ClientState): void {
    equal(this.closed, false);
    if (state.status !== "closed") return;
    this.closed = true;
    for (const followed of this.followed.values()) followed.wanted = false;
  }

  #heard(id: number): void {
    const got = this.#hints[id];
    if (got === undefined) throw new Error("the client delivered a publication that the gateway has not sent");
    this.#hints[id] = got + 1;
  }
}
