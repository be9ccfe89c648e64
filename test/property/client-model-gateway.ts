/** The gateway of the model. The test makes its moves one by one: welcomes, answers, publications, losses. */
import { deepEqual, equal, ok } from "node:assert/strict";
import type { ConnectionCallbacks, GatewayConnection } from "../../client/src/connection/connection.ts";
import type { ConnectCode } from "../../shared/protocol/codes.ts";
import type { Position } from "../../shared/protocol/wire.ts";
import { type ChannelName, channelNames, type GatewayView, type ModelApplication } from "./client-model-application.ts";
import { failed, ModelConnection, type Request, type Stream } from "./client-model-connection.ts";
import type { Violations } from "./client-model-violations.ts";

/**
 * `which` selects a connection, the newest first. `late` and `missing` are bits, one per connection in that order: it gets
 * the publication later, with its next one, or not at all.
 */
export class ModelGateway implements GatewayView {
  readonly #application: () => ModelApplication;
  readonly #violations: Violations;
  /** Each channel's newest position. Offsets continue when the history is lost. */
  readonly #ends = new Map<string, Position>();
  readonly #connections: ModelConnection[] = [];
  /** What the next attempt must present. */
  #resumeToken: string | null = null;
  /** The client called its token function once more since the gateway last accepted a token. */
  #askedAgain = false;
  /** The last one to report lost history. */
  #resyncing: ModelConnection | null = null;

  constructor(application: () => ModelApplication, violations: Violations) {
    this.#application = application;
    this.#violations = violations;
  }

  get resumeToken(): string | null {
    return this.#resumeToken;
  }

  /** The newest first. */
  get open(): ModelConnection[] {
    return this.#connections.filter(({ stage }) => stage !== "over").toReversed();
  }

  get newest(): ModelConnection | undefined {
    return this.#inUse.find(({ stage }) => stage === "welcomed");
  }

  get #inUse(): ModelConnection[] {
    return this.open.filter(({ leaving }) => !leaving);
  }

  get #closed(): boolean {
    return this.#application().closed;
  }

  end(name: string): Position {
    return this.#ends.get(name) ?? { epoch: "e", offset: 0 };
  }

  bridgedElsewhere(name: string): boolean {
    return this.#inUse.some((other) => other !== this.#resyncing && this.#counts(other, name));
  }

  connect(auth: Record<string, unknown>, callbacks: ConnectionCallbacks): GatewayConnection {
    this.#violations.expect(() => {
      equal(this.#closed, false);
      // Only a move opens a second connection.
      ok(this.#inUse.length === 0 || (this.#inUse.length === 1 && this.#inUse[0]?.drained));
      equal(auth["resume"], this.#resumeToken ?? undefined);
      equal(auth["moves"], true);
    });
    const connection = new ModelConnection(auth, callbacks, {
      sent: (...request) => this.#sent(...request),
      closingWhenIdle: (...closing) => this.#violations.expect(() => this.#notTooSoon(...closing)),
      closing: () => this.#violations.expect(() => equal(this.#closed, true)),
    });
    this.#connections.push(connection);
    return connection;
  }

  welcome(resumeToken: string | null, lifetimeMs: number): void {
    const connection = this.open.find(({ stage }) => stage === "opening");
    if (!connection) return;
    // The client repeats here what it requested on the earlier connection.
    for (const { requests } of this.open) for (const request of requests) request.subscribe = -1;
    connection.stage = "welcomed";
    this.#resumeToken = resumeToken && `${resumeToken}-${this.#connections.length}`;
    this.#askedAgain = false;
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
    const connection = this.open.find(({ stage }) => stage === "opening");
    if (!connection) return;
    const otherCredentials = code === "unauthenticated" && (this.#resumeToken !== null || !this.#askedAgain);
    if (code === "unauthenticated") this.#askedAgain = true;
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

  disconnect(which: number, code: string, reconnect: boolean): void {
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

  publish(name: ChannelName, late: number): void {
    const { epoch, offset } = this.end(name);
    this.#ends.set(name, { epoch, offset: offset + 1 });
    this.#flushAll(name, late);
  }

  /** Sends the last publication once more. */
  repeatLast(which: number, name: ChannelName): void {
    const connection = this.#connection(which);
    const offset = connection?.live.get(name)?.at.offset ?? 0;
    if (connection && offset > 0) this.#publication(connection, name, offset);
  }

  /** The channel's history begins again. Nodes notice one after another. */
  loseHistory(name: ChannelName, late: number): void {
    const { epoch, offset } = this.end(name);
    this.#ends.set(name, { epoch: `${epoch}'`, offset });
    this.#flushAll(name, late);
  }

  /** A node cannot bridge a gap of its own. */
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

  /** The server subscribes a session that has not subscribed itself. */
  subscribeFor(which: number, name: ChannelName): void {
    const connection = this.#connection(which);
    if (connection?.stage !== "welcomed" || connection.live.has(name)) return;
    const stream: Stream = { subscribe: -1, at: this.end(name) };
    connection.live.set(name, stream);
    const application = this.#application();
    const followed = application.of(name);
    const isNew = !followed.wanted;
    if (isNew) application.subscribedByServer = name;
    const subscribed = { channel: name, position: stream.at, grant: "sealed" };
    connection.callbacks.received("sync:subscribed", subscribed, undefined);
    application.subscribedByServer = null;
    if (isNew && followed.wanted) stream.subscribe = followed.subscribes;
  }

  ephemeral(name: ChannelName, missing: number): void {
    const id = this.#application().expectHint();
    for (const [index, { live, callbacks }] of this.open.entries()) {
      if (live.has(name) && (missing & (1 << index)) === 0) callbacks.received("hint", id, { channel: name });
    }
  }

  /** On one connection, as equal as any other message. */
  message(which: number): void {
    const connection = this.#connection(which);
    if (connection?.stage !== "welcomed") return;
    this.#application().messages.sent++;
    connection.callbacks.received("note", null, { user: true });
  }

  /** Answers one request, after skipping `skip`. Requests for channels are answered in order. */
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
      const call = this.#application().calls[(request.args[0] as { number: number }).number];
      if (call) call.limited = true;
      // Later calls wait behind it, whichever connection they will take.
      for (const each of this.open) each.limited = true;
      request.settle(failed("rate_limited"));
    } else if (how === "unrecovered") request.settle(failed("upstream_failed"));
    else if (how === "never") request.settle(failed("refused_by_the_service", false));
    else request.settle({ ok: true, data: request.args[0] });
  }

  /** Welcomes, answers and delivers all that is due. */
  serveAll(): void {
    this.welcome("resume", 10 * 24 * 3_600_000);
    for (let which = 0; which < this.open.length; which++) {
      while (this.#connection(which)?.requests.length) this.answer(which, "ok");
    }
    for (const name of channelNames) this.#flushAll(name, 0);
  }

  #connection(which: number): ModelConnection | undefined {
    return this.open[which % Math.max(1, this.open.length)];
  }

  #answerRefresh(connection: ModelConnection, request: Request, how: string): void {
    if (how !== "ok") return request.settle(failed("broker_unavailable"));
    const resumeToken = `renewed-${this.#connections.indexOf(connection)}`;
    if (connection === this.newest) {
      this.#resumeToken = resumeToken;
      this.#askedAgain = false;
    }
    request.settle({ ok: true, expiresAt: Date.now() + 3_600_000, resumeToken });
  }

  #answerChannel(connection: ModelConnection, request: Request, how: string): void {
    const { channel, position } = request.args[0] as { channel: string; position?: Position };
    connection.live.delete(channel);
    if (request.event === "sync:unsubscribe") return request.settle({ ok: true });
    if (how === "later") return request.settle(failed("upstream_unavailable"));
    if (how === "never") return request.settle(failed("channel_not_allowed", false));
    const end = this.end(channel);
    const recovered = position !== undefined && position.epoch === end.epoch && how !== "unrecovered";
    // A node that lags answers with what it has.
    const behind = recovered && how === "behind" && end.offset > position.offset;
    const at = { epoch: end.epoch, offset: behind ? end.offset - 1 : end.offset };
    const from = recovered ? position.offset : at.offset;
    const publications = Array.from({ length: at.offset - from }, (_, i) => ({
      offset: from + 1 + i,
      event: "moved",
      data: from + 1 + i,
    }));
    connection.live.set(channel, { subscribe: request.subscribe, at });
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

  #flushAll(name: string, late: number): void {
    for (const [index, connection] of this.open.entries()) {
      if ((late & (1 << index)) === 0) this.#flush(connection, name);
    }
  }

  /** Sends what the connection still lacks. Checks that the application has all of it then. */
  #flush(connection: ModelConnection, name: string): void {
    const stream = connection.live.get(name);
    if (!stream) return;
    const end = this.end(name);
    if (stream.at.epoch !== end.epoch) return this.#resync(connection, name, "epoch_changed");
    const followed = this.#application().of(name);
    const { subscribes } = followed;
    const counts = this.#counts(connection, name);
    while (stream.at.offset < end.offset && connection.live.get(name) === stream && connection.stage !== "over") {
      stream.at = { epoch: end.epoch, offset: stream.at.offset + 1 };
      this.#publication(connection, name, stream.at.offset);
    }
    if (counts && followed.wanted && followed.subscribes === subscribes && !connection.leaving) {
      this.#violations.expect(() => deepEqual(followed.last, end));
    }
  }

  /** Whether the connection brings everything that the application lacks. */
  #counts({ live, leaving }: ModelConnection, name: string): boolean {
    const { last, wanted, subscribes } = this.#application().of(name);
    const stream = live.get(name);
    if (!stream || !last || !wanted || leaving) return false;
    return stream.subscribe === subscribes && stream.at.epoch === last.epoch && stream.at.offset <= last.offset;
  }

  /** Before the deadline the client leaves a connection only if the newest one brings all that this one does. */
  #notTooSoon(connection: ModelConnection, withinMs: number): void {
    const { newest } = this;
    if (withinMs <= 0 || !newest) return;
    for (const name of channelNames) if (this.#counts(connection, name)) ok(this.#counts(newest, name));
  }

  #publication(connection: ModelConnection, name: string, offset: number): void {
    connection.callbacks.received("moved", offset, { channel: name, offset });
  }

  #resync(connection: ModelConnection, name: string, reason: string): void {
    const stream = connection.live.get(name);
    if (!stream) return;
    stream.at = this.end(name);
    this.#resyncing = connection;
    connection.callbacks.received("sync:resync", { channel: name, position: stream.at, reason }, undefined);
  }

  #sent(connection: ModelConnection, event: string, args: readonly unknown[]): number {
    const application = this.#application();
    this.#violations.expect(() => equal(application.closed, false));
    if (event === "sync:subscribe") {
      const { channel, position } = args[0] as { channel: string; position?: Position };
      return application.subscribeSent(connection, channel, position);
    }
    if (event === "edit") application.callSent(connection, args);
    return -1;
  }
}
