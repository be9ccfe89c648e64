/**
 * A world for one client: a gateway that the test plays move by move, time that the test advances, and an application
 * that subscribes and calls. The world checks at each moment what must always hold.
 */
import { deepEqual, equal, ok } from "node:assert/strict";
import { vi } from "vitest";
import type { Channel, ClientState, TidegateError } from "../../client/src/index.ts";
import { Client } from "../../client/src/client.ts";
import type { ConnectionCallbacks, GatewayConnection } from "../../client/src/connection/connection.ts";
import type { ConnectCode } from "../../shared/protocol/codes.ts";
import type { Position } from "../../shared/protocol/wire.ts";
import { failed, ModelConnection, type Request, type Stream } from "./client-model-connection.ts";

export const channelNames = ["board:1", "board:2"] as const;
export type ChannelName = (typeof channelNames)[number];
export const maxWaitingCalls = 3;

/** What the application knows of one of its calls. */
interface MadeCall {
  readonly number: number;
  readonly repeat: boolean;
  /** Made while not connected, and not sent yet. */
  waiting: boolean;
  sends: number;
  /** Refused before anybody was asked: it may be sent again. */
  unasked: boolean;
  settled: number;
}

interface Followed {
  readonly channel: Channel;
  wished: boolean;
  /** How often the application has asked for it. */
  wishes: number;
  /** Where the application stands by what it was told, where the next publication must follow that. */
  last: Position | null;
  /** What the application does within the next delivery. */
  whenDelivered: (() => void) | undefined;
}

interface Asked {
  channel: string;
  position?: Position;
}

export class World {
  readonly client: Client;
  readonly calls: MadeCall[] = [];
  readonly wishes: { settled: number }[] = [];
  /** Where each channel stands. Offsets go on growing when the history is lost. */
  readonly #ends = new Map<string, Position>();
  /** How often the application got each message without an offset, and whether it must have. */
  readonly #unnumbered: { got: number; due: boolean }[] = [];
  readonly #followed = new Map<string, Followed>();
  readonly #connections: ModelConnection[] = [];
  /** What the next try to connect has to present; without it the token service is asked. */
  #resumeToken: string | null = null;
  #closed = false;
  #firstSends = -1;
  /** The server subscribes to it, of which the application is told in a moment. */
  #news: ChannelName | null = null;
  /** On which the gateway last said that something is lost. */
  #resyncing: ModelConnection | null = null;
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
        // A second one is for moving only.
        ok(this.#inUse.length === 0 || (this.#inUse.length === 1 && this.#inUse[0]?.drained));
        equal(auth["resume"], this.#resumeToken ?? undefined);
        equal(auth["moves"], true);
      });
      const connection = new ModelConnection(auth, callbacks, {
        sent: (...request) => this.#sent(...request),
        left: (...goodbye) => this.#must(() => this.#leftTooSoon(...goodbye)),
        closed: () => this.#must(() => equal(this.#closed, true)),
      });
      this.#connections.push(connection);
      return connection;
    };
    const offline = { maxCalls: maxWaitingCalls };
    client = Client.connect({ url: "model", token, offline, random: () => 0.5 }, connector);
    this.client = client;
    client.onState((state) => this.#must(() => this.#stateChanged(state)));
    client.onMessage("note", (id) => void this.#message(id as number).got++);
    client.onSubscribed((channel) => {
      const followed = this.#of(channel.name);
      this.#must(() => equal(followed.wished, false));
      followed.wished = true;
      followed.wishes++;
      followed.last = channel.position;
    });
    for (const name of channelNames) this.#follow(name);
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** The newest first. */
  get #open(): ModelConnection[] {
    return this.#connections.filter(({ stage }) => stage !== "over").toReversed();
  }

  get #inUse(): ModelConnection[] {
    return this.#open.filter(({ leaving }) => !leaving);
  }

  /** Where new calls must go. */
  get #newest(): ModelConnection | undefined {
    return this.#inUse.find(({ stage }) => stage === "welcomed");
  }

  #connection(which: number): ModelConnection | undefined {
    return this.#open[which % Math.max(1, this.#open.length)];
  }

  // What the gateway does. `which`: on the newest connection, or on an earlier one.

  welcome(resumeToken: string | null, lifetimeMs: number): void {
    const connection = this.#open.find(({ stage }) => stage === "opening");
    if (!connection) return;
    // What was asked for on the connection before is now asked for here.
    for (const { requests } of this.#open) for (const request of requests) request.wish = -1;
    connection.stage = "welcomed";
    this.#resumeToken = resumeToken && `${resumeToken}-${this.#connections.length}`;
    connection.callbacks.welcomed({
      protocol: 1,
      node: `n${this.#connections.length}`,
      sessionId: "s",
      user: "ada",
      resumed: connection.auth["resume"] !== undefined,
      resumeToken: this.#resumeToken,
      expiresAt: Date.now() + lifetimeMs,
      maxPayloadBytes: 100,
      reconnect: { minDelayMs: 100, windowMs: 1_000 },
    });
  }

  refuse(code: ConnectCode, retryable: boolean, retryAfterMs?: number): void {
    const connection = this.#open.find(({ stage }) => stage === "opening");
    if (!connection) return;
    const otherCredentials = code === "unauthenticated" && this.#resumeToken !== null;
    const moving = this.#inUse.length > 1;
    if (code === "unauthenticated" || code === "token_expired") this.#resumeToken = null;
    const refusal = { code, message: code, retryable, ...(retryAfterMs !== undefined && { retryAfterMs }) };
    connection.end({ kind: "refused", refusal });
    equal(this.#closed, !moving && !retryable && !otherCredentials);
  }

  lose(which: number): void {
    const closed = this.#closed;
    this.#connection(which)?.end({ kind: "lost", message: "cut" });
    equal(this.#closed, closed);
  }

  dismiss(which: number, code: string, reconnect: boolean): void {
    const connection = this.#connection(which);
    if (connection?.stage !== "welcomed") return;
    const counts = !connection.leaving;
    connection.end({ kind: "disconnected", disconnect: { code, reason: code, reconnect } });
    if (code !== "replaced" || !connection.drained) equal(this.#closed, counts && !reconnect);
  }

  drain(which: number, reconnectInMs: number, deadlineInMs: number): void {
    const connection = this.#connection(which);
    if (connection?.stage !== "welcomed") return;
    connection.drained = true;
    connection.callbacks.received("sync:drain", { reconnectInMs, deadlineInMs }, undefined);
  }

  /** @param late which connections get it later, with their next publication: bits, the newest connection first */
  publish(name: ChannelName, late: number): void {
    const { epoch, offset } = this.#end(name);
    this.#ends.set(name, { epoch, offset: offset + 1 });
    for (const [index, connection] of this.#open.entries()) {
      if ((late & (1 << index)) === 0) this.#flush(connection, name);
    }
  }

  /** What was published, sent again where it was sent before. */
  repeatLast(which: number, name: ChannelName): void {
    const connection = this.#connection(which);
    const offset = connection?.live.get(name)?.at.offset ?? 0;
    if (connection && offset > 0) this.#publication(connection, name, offset);
  }

  /** The history is lost, and begins anew. Nodes find out one after the other. */
  loseHistory(name: ChannelName, late: number): void {
    const { epoch, offset } = this.#end(name);
    this.#ends.set(name, { epoch: `${epoch}'`, offset });
    for (const [index, connection] of this.#open.entries()) {
      if ((late & (1 << index)) === 0) this.#flush(connection, name);
    }
  }

  /** A node gives up on a gap of its own. */
  resync(which: number, name: ChannelName): void {
    const connection = this.#connection(which);
    if (connection) this.#resync(connection, name, "too_far_behind");
  }

  revoke(which: number, name: ChannelName): void {
    const connection = this.#connection(which);
    if (connection?.live.delete(name)) {
      connection.callbacks.received("sync:revoked", { channel: name, reason: "revoked" }, undefined);
    }
  }

  /** The server subscribes the session, where it is not subscribed and has not asked to be. */
  subscribeFor(which: number, name: ChannelName): void {
    const connection = this.#connection(which);
    if (connection?.stage !== "welcomed" || connection.live.has(name)) return;
    const stream: Stream = { wish: -1, at: this.#end(name) };
    connection.live.set(name, stream);
    const followed = this.#of(name);
    const news = !followed.wished;
    const word = { channel: name, position: stream.at, grant: "sealed" };
    if (news) this.#news = name;
    connection.callbacks.received("sync:subscribed", word, undefined);
    this.#news = null;
    if (news && followed.wished) stream.wish = followed.wishes;
  }

  /** @param missing which connections do not bring it: bits */
  ephemeral(name: ChannelName, missing: number): void {
    const id = this.#unnumbered.push({ got: 0, due: false }) - 1;
    for (const [index, { live, callbacks }] of this.#open.entries()) {
      if (live.has(name) && (missing & (1 << index)) === 0) callbacks.received("hint", id, { channel: name });
    }
  }

  /** @param missing which connections do not bring it: bits */
  message(missing: number): void {
    const note = { got: 0, due: false };
    const id = this.#unnumbered.push(note) - 1;
    for (const [index, { stage, callbacks }] of this.#open.entries()) {
      if (stage !== "welcomed" || (missing & (1 << index)) !== 0) continue;
      note.due = true;
      callbacks.received("note", id, { user: true });
    }
  }

  /** Handles the oldest request but `skip` of those that wait; those of one channel stay in their order. */
  answer(which: number, how: "ok" | "later" | "never" | "unrecovered" | "behind", skip = 0): void {
    const connection = this.#connection(which);
    if (!connection) return;
    const waiting = connection.requests.filter(({ event }, i) => i === 0 || !event.startsWith("sync:"));
    const request = waiting[skip % Math.max(1, waiting.length)];
    if (!request) return;
    if (request.event === "sync:refresh") {
      this.#answerRefresh(connection, request, how);
    } else if (request.event.startsWith("sync:")) {
      this.#answerChannel(connection, request, how);
    } else if (how === "later") {
      const call = this.calls[(request.args[0] as { number: number }).number];
      if (call) call.unasked = true;
      request.settle(failed("rate_limited"));
    } else if (how === "unrecovered") request.settle(failed("upstream_failed"));
    else if (how === "never") request.settle(failed("refused_by_the_service", false));
    else request.settle({ ok: true, data: request.args[0] });
  }

  #answerRefresh(connection: ModelConnection, request: Request, how: string): void {
    if (how !== "ok") return request.settle(failed("broker_unavailable"));
    const resumeToken = `renewed-${this.#connections.indexOf(connection)}`;
    if (connection === this.#newest) this.#resumeToken = resumeToken;
    request.settle({ ok: true, expiresAt: Date.now() + 3_600_000, resumeToken });
  }

  #answerChannel(connection: ModelConnection, request: Request, how: string): void {
    const { channel, position } = request.args[0] as { channel: string; position?: Position };
    connection.live.delete(channel);
    if (request.event === "sync:unsubscribe") return request.settle({ ok: true });
    if (how === "later") return request.settle(failed("upstream_unavailable"));
    if (how === "never") return request.settle(failed("channel_not_allowed", false));
    const end = this.#end(channel);
    const recovered = position !== undefined && position.epoch === end.epoch && how !== "unrecovered";
    // A node that is behind answers with what it has.
    const behind = recovered && how === "behind" && end.offset > position.offset;
    const at = { epoch: end.epoch, offset: behind ? end.offset - 1 : end.offset };
    const from = recovered ? position.offset : at.offset;
    const publications = Array.from({ length: at.offset - from }, (_, i) => ({
      offset: from + 1 + i,
      event: "moved",
      data: from + 1 + i,
    }));
    connection.live.set(channel, { wish: request.wish, at });
    this.#resyncing = connection;
    request.settle({
      ok: true,
      channel,
      position: at,
      recovered,
      ...(position && !recovered && { reason: "history_trimmed" }),
      publications,
    });
  }

  /** Sends what the connection has not been sent yet: the application must have it then. */
  #flush(connection: ModelConnection, name: string): void {
    const stream = connection.live.get(name);
    if (!stream) return;
    const end = this.#end(name);
    if (stream.at.epoch !== end.epoch) return this.#resync(connection, name, "epoch_changed");
    const { wishes } = this.#of(name);
    const counts = this.#counts(connection, name);
    while (stream.at.offset < end.offset && connection.live.get(name) === stream && connection.stage !== "over") {
      stream.at = { epoch: end.epoch, offset: stream.at.offset + 1 };
      this.#publication(connection, name, stream.at.offset);
    }
    const now = this.#of(name);
    if (counts && now.wished && now.wishes === wishes && !connection.leaving)
      this.#must(() => deepEqual(now.last, end));
  }

  /** Whether the connection brings all that the application has not got yet. */
  #counts({ live, leaving }: ModelConnection, name: string): boolean {
    const { last, wished, wishes } = this.#of(name);
    const stream = live.get(name);
    if (!stream || !last || !wished || leaving) return false;
    return stream.wish === wishes && stream.at.epoch === last.epoch && stream.at.offset <= last.offset;
  }

  /** Nothing is left before the newest connection brings it, but for the deadline. */
  #leftTooSoon(connection: ModelConnection, withinMs: number): void {
    const newest = this.#newest;
    if (withinMs <= 0 || !newest) return;
    for (const name of channelNames) if (this.#counts(connection, name)) ok(this.#counts(newest, name));
  }

  #publication(connection: ModelConnection, name: string, offset: number): void {
    connection.callbacks.received("moved", offset, { channel: name, offset });
  }

  #resync(connection: ModelConnection, name: string, reason: string): void {
    const stream = connection.live.get(name);
    if (!stream) return;
    stream.at = this.#end(name);
    this.#resyncing = connection;
    connection.callbacks.received("sync:resync", { channel: name, position: stream.at, reason }, undefined);
  }

  // What the application does.

  subscribe(name: ChannelName, fromStart: boolean): void {
    const followed = this.#of(name);
    const start = { epoch: this.#end(name).epoch, offset: 0 };
    const wish = { settled: 0 };
    this.wishes.push(wish);
    const settled = (): void => void wish.settled++;
    const fresh = !followed.wished;
    if (fresh) followed.last = fromStart ? start : null;
    const wishes = fresh ? ++followed.wishes : followed.wishes;
    followed.wished = !this.#closed;
    followed.channel.subscribe(fromStart ? { position: start } : {}).then(({ recovered, position }) => {
      settled();
      if (fresh && followed.wishes === wishes && !recovered) followed.last = position;
    }, settled);
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
    const call: MadeCall = { number, repeat, waiting: false, sends: 0, unasked: false, settled: 0 };
    this.calls.push(call);
    const options = repeat ? ({ id: `id-${number}`, repeat: true, withinMs } as const) : { withinMs };
    const promise = this.client.call("edit", { number }, options);
    call.waiting = call.sends === 0;
    if (this.#newest && !this.#closed) ok(!call.waiting);
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

  /** Called for every request that reaches the gateway. Returns which wish for the channel it is for. */
  #sent(connection: ModelConnection, event: string, args: readonly unknown[]): number {
    this.#must(() => equal(this.#closed, false));
    if (event === "sync:subscribe") return this.#subscribeSent(connection, args[0] as Asked);
    if (event === "edit") this.#callSent(connection, args);
    return -1;
  }

  #callSent(connection: ModelConnection, args: readonly unknown[]): void {
    const [{ number }, options] = args as [{ number: number }, { id?: string } | undefined];
    const call = this.calls[number];
    if (!call) throw new Error("a call was sent that nobody made");
    this.#must(() => {
      equal(options?.id, call.repeat ? `id-${number}` : undefined);
      equal(call.settled, 0);
      equal(connection, this.#newest);
      if (call.sends > 0) ok(call.repeat || call.unasked);
      else ok(number > this.#firstSends);
    });
    call.unasked = false;
    if (call.sends++ === 0) this.#firstSends = number;
    call.waiting = false;
  }

  #subscribeSent(connection: ModelConnection, { channel, position }: Asked): number {
    const { wished, last, wishes } = this.#of(channel);
    if (!wished && channel === this.#news) return wishes + 1;
    // Until the answer nothing of it comes.
    connection.live.delete(channel);
    this.#must(() => {
      ok(wished);
      equal(connection, this.#newest);
      if (last !== null) deepEqual(position, last);
    });
    return wishes;
  }

  /** What must hold whenever nothing is going on. */
  check(): void {
    if (this.#violation !== undefined) throw this.#violation as Error;
    ok(this.calls.filter(({ waiting }) => waiting).length <= maxWaitingCalls);
    for (const { settled } of [...this.calls, ...this.wishes]) ok(settled <= 1);
    for (const { got, due } of this.#unnumbered) ok(got <= 1 && (got === 1 || !due));
  }

  /** A gateway that works: everything comes to its end. */
  async settle(): Promise<void> {
    this.tokenFails = false;
    this.tokenTakesMs = 0;
    for (let round = 0; round < 40 && !this.#closed; round++) {
      this.welcome("resume", 10 * 24 * 3_600_000);
      for (let which = 0; which < this.#open.length; which++) {
        while (this.#connection(which)?.requests.length) this.answer(which, "ok");
      }
      for (const name of channelNames) for (const connection of this.#open) this.#flush(connection, name);
      await vi.advanceTimersByTimeAsync(31_000);
    }
    if (this.#closed) return;
    equal(this.#open.length, 1);
    for (const { channel, wished } of this.#followed.values()) {
      if (wished) deepEqual(channel.position, this.#end(channel.name));
    }
  }

  #follow(name: ChannelName): void {
    const channel = this.client.channel(name);
    const followed: Followed = { channel, wished: false, wishes: 0, last: null, whenDelivered: undefined };
    this.#followed.set(name, followed);
    channel.on("moved", (data, meta) => {
      const offset = "offset" in meta ? meta.offset : -1;
      this.#must(() => {
        ok(followed.wished && !this.#closed);
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
    channel.on("hint", (id) => void this.#message(id as number).got++);
    channel.onResync(({ position }) => {
      const bridged = this.#inUse.some((other) => other !== this.#resyncing && this.#counts(other, name));
      // Who lost nothing is not told to resync.
      this.#must(() => ok(!bridged || followed.last?.epoch !== position.epoch));
      followed.last = position;
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

  #message(id: number): { got: number; due: boolean } {
    const message = this.#unnumbered[id];
    if (!message) throw new Error("a message came that nobody sent");
    return message;
  }

  #of(name: string): Followed {
    const followed = this.#followed.get(name);
    if (!followed) throw new Error(`${name} is not of this world`);
    return followed;
  }

  #end(name: string): Position {
    return this.#ends.get(name) ?? { epoch: "e", offset: 0 };
  }
}
