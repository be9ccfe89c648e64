/**
 * A world for one client: a gateway that the test plays move by move, time that the test advances, and an application
 * that subscribes and calls. The world checks at each moment what must always hold.
 */
import { deepEqual, equal, ok } from "node:assert/strict";
import { vi } from "vitest";
import type { Channel, ClientState, TidegateError } from "../../client/src/index.ts";
import { Client } from "../../client/src/client.ts";
import type { ConnectionCallbacks, Ending, GatewayConnection } from "../../client/src/connection.ts";
import type { ConnectCode } from "../../shared/protocol/codes.ts";
import type { Ack, Position } from "../../shared/protocol/wire.ts";

export const channelNames = ["board:1", "board:2"] as const;
export type ChannelName = (typeof channelNames)[number];
export const maxWaitingCalls = 3;
const epoch = "e";

type AnyAck = Ack<Record<string, unknown>>;

interface Request {
  event: string;
  args: readonly unknown[];
  settle: (ack: AnyAck) => void;
}

/** As the real one, but for the wire: what it promises is what `Connection` promises. */
class ModelConnection implements GatewayConnection {
  readonly auth: Record<string, unknown>;
  readonly callbacks: ConnectionCallbacks;
  readonly requests: Request[] = [];
  /** Channels that the gateway delivers on this connection. */
  readonly live = new Set<string>();
  stage: "new" | "opening" | "welcomed" | "over" = "new";
  readonly #world: World;

  constructor(world: World, auth: Record<string, unknown>, callbacks: ConnectionCallbacks) {
    this.#world = world;
    this.auth = auth;
    this.callbacks = callbacks;
  }

  open(): void {
    this.stage = "opening";
  }

  request<T extends object>(
    event: string,
    args: readonly unknown[],
    answered: (ack: Ack<T>) => void,
    deadlineMs = 15_000,
  ): void {
    if (this.stage !== "welcomed") return answered(failed("not_connected"));
    const timer = setTimeout(() => settle(failed("upstream_timeout")), deadlineMs);
    const settle = (ack: AnyAck): void => {
      const index = this.requests.indexOf(request);
      if (index < 0) return;
      this.requests.splice(index, 1);
      clearTimeout(timer);
      answered(ack);
    };
    const request = { event, args, settle };
    this.requests.push(request);
    this.#world.sent(event, args);
  }

  close(): void {
    this.stage = "over";
    this.#failRequests();
  }

  end(ending: Ending): void {
    this.stage = "over";
    this.callbacks.ended(ending);
    this.#failRequests();
  }

  #failRequests(): void {
    for (const { settle } of [...this.requests]) settle(failed("upstream_timeout"));
  }
}

/** What the application knows of one of its calls. */
interface MadeCall {
  readonly number: number;
  readonly repeat: boolean;
  /** Made while not connected, and not sent yet. */
  waiting: boolean;
  sends: number;
  settled: number;
}

interface Followed {
  readonly channel: Channel;
  wished: boolean;
  /** The last offset that was delivered, where the next must follow it. */
  last: number | null;
  /** What the application does within the next delivery. */
  whenDelivered: (() => void) | undefined;
}

export class World {
  readonly client: Client;
  readonly calls: MadeCall[] = [];
  readonly wishes: { settled: number }[] = [];
  /** Offset of the newest publication, by channel. */
  readonly ends = new Map<string, number>();
  readonly #followed = new Map<string, Followed>();
  readonly #connections: ModelConnection[] = [];
  /** What the next try to connect has to present; without it the token service is asked. */
  #resumeToken: string | null = null;
  #closed = false;
  #firstSends = -1;
  #violation: unknown;
  tokenFails = false;
  tokenTakesMs = 0;

  constructor() {
    let client: Client | undefined;
    const token = async (): Promise<string> => {
      if ((client?.state.status ?? "connecting") === "connecting") this.#must(() => equal(this.#resumeToken, null));
      if (this.tokenFails) throw new Error("the token service is down");
      if (this.tokenTakesMs > 0) await new Promise((resolve) => setTimeout(resolve, this.tokenTakesMs));
      return "token";
    };
    const connector = (
      _url: string,
      auth: Record<string, unknown>,
      callbacks: ConnectionCallbacks,
    ): GatewayConnection => {
      this.#must(() => {
        equal(this.#closed, false);
        ok(this.#connections.every(({ stage }) => stage === "over"));
        equal(auth["resume"], this.#resumeToken ?? undefined);
      });
      const connection = new ModelConnection(this, auth, callbacks);
      this.#connections.push(connection);
      return connection;
    };
    const offline = { maxCalls: maxWaitingCalls };
    client = Client.connect({ url: "model", token, offline, random: () => 0.5 }, connector);
    this.client = client;
    client.onState((state) => this.#must(() => this.#stateChanged(state)));
    client.onSubscribed((channel) => {
      this.#must(() => equal(this.#of(channel.name).wished, false));
      this.#of(channel.name).wished = true;
    });
    for (const name of channelNames) this.#follow(name);
  }

  get closed(): boolean {
    return this.#closed;
  }

  get connection(): ModelConnection | undefined {
    const newest = this.#connections.at(-1);
    return newest?.stage === "over" ? undefined : newest;
  }

  // What the gateway does.

  welcome(resumeToken: string | null, lifetimeMs: number): void {
    const { connection } = this;
    if (connection?.stage !== "opening") return;
    connection.stage = "welcomed";
    this.#resumeToken = resumeToken;
    connection.callbacks.welcomed({
      protocol: 1,
      node: "n1",
      sessionId: "s",
      user: "ada",
      resumed: connection.auth["resume"] !== undefined,
      resumeToken,
      expiresAt: Date.now() + lifetimeMs,
      maxPayloadBytes: 100,
      reconnect: { minDelayMs: 100, windowMs: 1_000 },
    });
  }

  refuse(code: ConnectCode, retryable: boolean): void {
    if (this.connection?.stage !== "opening") return;
    const otherCredentials = code === "unauthenticated" && this.#resumeToken !== null;
    if (code === "unauthenticated" || code === "token_expired") this.#resumeToken = null;
    this.connection.end({ kind: "refused", refusal: { code, message: code, retryable } });
    equal(this.#closed, !retryable && !otherCredentials);
  }

  lose(): void {
    this.connection?.end({ kind: "lost", message: "cut" });
  }

  dismiss(code: string, reconnect: boolean): void {
    if (this.connection?.stage !== "welcomed") return;
    this.connection.end({ kind: "dismissed", disconnect: { code, reason: code, reconnect } });
    equal(this.#closed, !reconnect);
  }

  publish(name: ChannelName): void {
    this.ends.set(name, this.#end(name) + 1);
    this.repeatLast(name);
  }

  /** The newest publication, sent again where it was sent before. */
  repeatLast(name: ChannelName): void {
    const offset = this.#end(name);
    if (offset > 0 && this.connection?.live.has(name)) this.#emit("moved", offset, { channel: name, offset });
  }

  resync(name: ChannelName): void {
    if (!this.connection?.live.has(name)) return;
    this.#of(name).last = null;
    this.#emit("sync:resync", { channel: name, position: this.#position(name), reason: "too_far_behind" });
  }

  revoke(name: ChannelName): void {
    if (this.connection?.live.delete(name)) this.#emit("sync:revoked", { channel: name, reason: "revoked" });
  }

  /** The server subscribes the session, where it is not subscribed and has not asked to be. */
  subscribeFor(name: ChannelName): void {
    const { connection } = this;
    if (connection?.stage !== "welcomed" || connection.live.has(name)) return;
    connection.live.add(name);
    const followed = this.#of(name);
    if (!followed.wished) followed.last = this.#end(name);
    this.#emit("sync:subscribed", { channel: name, position: this.#position(name), grant: "sealed" });
  }

  /** Handles the oldest request but `skip` of those that wait; those of one channel stay in their order. */
  answer(how: "ok" | "later" | "never" | "unrecovered", skip = 0): void {
    const { connection } = this;
    if (!connection) return;
    const waiting = connection.requests.filter(({ event }, i) => i === 0 || !event.startsWith("sync:"));
    const request = waiting[skip % Math.max(1, waiting.length)];
    if (!request) return;
    if (request.event === "sync:refresh") {
      this.#answerRefresh(request, how);
    } else if (request.event.startsWith("sync:")) {
      this.#answerChannel(connection, request, how);
    } else if (how === "later") request.settle(failed("rate_limited"));
    else if (how === "never") request.settle(failed("refused_by_the_service", false));
    else request.settle({ ok: true, data: request.args[0] });
  }

  #answerRefresh(request: Request, how: string): void {
    if (how !== "ok") return request.settle(failed("broker_unavailable"));
    this.#resumeToken = "renewed";
    request.settle({ ok: true, expiresAt: Date.now() + 3_600_000, resumeToken: "renewed" });
  }

  #answerChannel(connection: ModelConnection, request: Request, how: string): void {
    const { channel, position } = request.args[0] as { channel: string; position?: Position };
    const followed = this.#of(channel);
    if (request.event === "sync:unsubscribe") {
      connection.live.delete(channel);
      return request.settle({ ok: true });
    }
    connection.live.delete(channel);
    if (how === "later") return request.settle(failed("upstream_unavailable"));
    if (how === "never") return request.settle(failed("channel_not_allowed", false));
    connection.live.add(channel);
    const recovered = position !== undefined && how === "ok";
    const end = this.#end(channel);
    if (!recovered) followed.last = null;
    const from = recovered ? position.offset : end;
    const publications = Array.from({ length: end - from }, (_, i) => ({
      offset: from + 1 + i,
      event: "moved",
      data: from + 1 + i,
    }));
    request.settle({
      ok: true,
      channel,
      position: this.#position(channel),
      recovered,
      ...(position && !recovered && { reason: "history_trimmed" }),
      publications,
    });
  }

  // What the application does.

  subscribe(name: ChannelName, fromStart: boolean): void {
    const followed = this.#of(name);
    if (!followed.wished) followed.last = fromStart ? 0 : null;
    followed.wished = !this.#closed;
    const wish = { settled: 0 };
    this.wishes.push(wish);
    const settled = (): void => void wish.settled++;
    followed.channel.subscribe(fromStart ? { position: { epoch, offset: 0 } } : {}).then(settled, settled);
  }

  unsubscribe(name: ChannelName): void {
    this.#of(name).wished = false;
    this.#of(name).channel.unsubscribe();
  }

  whenDelivered(name: ChannelName, act: () => void): void {
    this.#of(name).whenDelivered = act;
  }

  call(repeat: boolean, withinMs: number): void {
    const number = this.calls.length;
    const call: MadeCall = { number, repeat, waiting: false, sends: 0, settled: 0 };
    this.calls.push(call);
    const options = repeat ? ({ id: `id-${number}`, repeat: true, withinMs } as const) : { withinMs };
    const promise = this.client.call("edit", { number }, options);
    call.waiting = call.sends === 0;
    promise.then(
      (data) => {
        this.#must(() => {
          deepEqual(data, { number });
          ok(call.sends > 0);
        });
        this.#settled(call);
      },
      ({ code }: TidegateError) => {
        this.#must(() => {
          if (code === "queue_full" || code === "not_connected") equal(call.sends, 0);
        });
        this.#settled(call);
      },
    );
  }

  close(): void {
    this.client.close();
  }

  /** Called for every request that reaches the gateway. */
  sent(event: string, args: readonly unknown[]): void {
    this.#must(() => equal(this.#closed, false));
    if (event === "sync:subscribe") this.#subscribeSent(args[0] as { channel: string; position?: Position });
    if (event !== "edit") return;
    const [{ number }, options] = args as [{ number: number }, { id?: string } | undefined];
    const call = this.calls[number];
    if (!call) throw new Error("a call was sent that nobody made");
    this.#must(() => {
      equal(options?.id, call.repeat ? `id-${number}` : undefined);
      equal(call.settled, 0);
      if (call.sends > 0) ok(call.repeat);
      else ok(number > this.#firstSends);
    });
    if (call.sends++ === 0) this.#firstSends = number;
    call.waiting = false;
  }

  #subscribeSent({ channel, position }: { channel: string; position?: Position }): void {
    const { wished, last } = this.#of(channel);
    this.#must(() => {
      ok(wished);
      if (last !== null) deepEqual(position, { epoch, offset: last });
    });
  }

  /** What must hold whenever nothing is going on. */
  check(): void {
    if (this.#violation !== undefined) throw this.#violation as Error;
    ok(this.calls.filter(({ waiting }) => waiting).length <= maxWaitingCalls);
    for (const { settled } of [...this.calls, ...this.wishes]) ok(settled <= 1);
  }

  /** A gateway that works: everything comes to its end. */
  async settle(): Promise<void> {
    this.tokenFails = false;
    this.tokenTakesMs = 0;
    for (let round = 0; round < 40 && !this.#closed; round++) {
      this.welcome("resume", 10 * 24 * 3_600_000);
      while (this.connection?.requests.length) this.answer("ok");
      await vi.advanceTimersByTimeAsync(31_000);
    }
    for (const { channel, wished } of this.#followed.values()) {
      if (wished && !this.#closed) deepEqual(channel.position, this.#position(channel.name));
    }
  }

  #follow(name: ChannelName): void {
    const channel = this.client.channel(name);
    const followed: Followed = { channel, wished: false, last: null, whenDelivered: undefined };
    this.#followed.set(name, followed);
    channel.on("moved", (data, meta) => {
      const offset = "offset" in meta ? meta.offset : -1;
      this.#must(() => {
        ok(followed.wished && !this.#closed);
        equal(data, offset);
        if (followed.last !== null) equal(offset, followed.last + 1);
        deepEqual(channel.position, { epoch, offset });
      });
      followed.last = offset;
      const { whenDelivered } = followed;
      followed.whenDelivered = undefined;
      whenDelivered?.();
    });
    channel.onEnd(() => (followed.wished = false));
  }

  /** Where the SDK would catch what a check throws. */
  #must(check: () => void): void {
    try {
      check();
    } catch (error) {
      this.#violation ??= error;
    }
  }

  #settled(call: MadeCall): void {
    call.settled++;
    call.waiting = false;
  }

  #stateChanged(state: ClientState): void {
    equal(this.#closed, false);
    if (state.status !== "closed") return;
    this.#closed = true;
    for (const followed of this.#followed.values()) followed.wished = false;
  }

  #emit(event: string, data: unknown, meta?: unknown): void {
    this.connection?.callbacks.received(event, data, meta);
  }

  #of(name: string): Followed {
    const followed = this.#followed.get(name);
    if (!followed) throw new Error(`${name} is not of this world`);
    return followed;
  }

  #end(name: string): number {
    return this.ends.get(name) ?? 0;
  }

  #position(name: string): Position {
    return { epoch, offset: this.#end(name) };
  }
}

function failed(code: string, retryable = true): Ack<never> {
  return { ok: false, error: { code, message: code, retryable } };
}
