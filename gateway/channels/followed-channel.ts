import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import type * as contract from "../../shared/channels/contract.ts";
import type { Logger } from "../../shared/runtime/logging.ts";
import type { CurrentRules } from "../../shared/rules/current-rules.ts";
import type { NamespaceOptions } from "../../shared/rules/rules.ts";
import { maxReplayBytes, maxReplayPublications } from "../../shared/protocol/limits.ts";
import { type CatchUpChannel, CatchUp, type CaughtUp } from "./catch-up.ts";
import type { ChannelRepairs } from "./channel-repairs.ts";
import type { GatewayMetrics } from "../metrics/metrics.ts";
import { type DeliveryOwner, type Follower, OrderedDelivery } from "./ordered-delivery.ts";
import type { Reading } from "./recovery.ts";
import type { ResyncPacing, ResyncSource } from "./resync-pacing.ts";
import { Tail } from "./tail.ts";
import type { TailBudget } from "./tail-budget.ts";

/** One read towards alignment. */
const alignLimit = 1_000;
const alignBytes = 1024 * 1024;

/** What all channels of a node share. */
export interface ChannelContext {
  readonly broker: contract.ChannelBroker;
  readonly rules: Pick<CurrentRules, "rules">;
  readonly tailBudget: TailBudget;
  readonly resyncs: ResyncPacing;
  readonly repairs: ChannelRepairs;
  /** See {@link CatchUp}. */
  readonly claimPauses: Map<string, number>;
  readonly errors: ContainedErrors;
  readonly metrics: Pick<GatewayMetrics, "deliveries" | "resyncs" | "historyReads">;
  readonly logger: Logger;
}

/**
 * One channel from its first local follower to its last: its deliveries, its tail, clients that catch up, and every read
 * of its history.
 */
export class FollowedChannel implements DeliveryOwner, CatchUpChannel, ResyncSource {
  readonly name: string;
  readonly #context: ChannelContext;
  readonly #delivery = new OrderedDelivery(this);
  /** From the first delivery or read on. */
  #tail: Tail | undefined;
  /** From the first client on that catches up. */
  #catchUp: CatchUp | undefined;
  #aligning: Promise<void> | undefined;
  /** At the last {@link isQuiet}. */
  #offsetThen: number | undefined;
  #stopped = false;

  constructor(name: string, context: ChannelContext) {
    this.name = name;
    this.#context = context;
  }

  get keepsLatest(): boolean {
    return this.#namespace.slow === "latest";
  }

  get isFollowed(): boolean {
    return this.#delivery.isFollowed;
  }

  get followerCount(): number {
    return this.#delivery.followerCount;
  }

  /** Where live deliveries stand; undefined while misaligned. */
  get position(): contract.Position | undefined {
    return this.#delivery.position;
  }

  add(follower: Follower): void {
    this.#delivery.add(follower);
  }

  /** The last follower ends the channel. */
  remove(follower: Follower): void {
    this.#delivery.remove(follower);
    if (this.isFollowed) return;
    this.stop();
    this.#tail?.drop();
  }

  stop(): void {
    this.#stopped = true;
    this.#context.repairs.remove(this);
    this.#catchUp?.stop();
  }

  receive(epoch: string, publication: contract.Publication): void {
    if (this.#delivery.receive(epoch, publication)) void this.repair();
  }

  receiveEphemeral(ephemeral: contract.Ephemeral): void {
    this.#delivery.receiveEphemeral(ephemeral);
  }

  onDelivered(epoch: string, publication: contract.Publication, followers: number): void {
    this.#ownTail.append(epoch, publication, this.#namespace, performance.now());
    this.#catchUp?.onDelivered();
    this.#context.metrics.deliveries.inc(followers);
  }

  onBroken(position: contract.Position, lost: readonly Follower[]): void {
    this.#tail?.restart(position);
    this.#context.resyncs.add(this, lost);
  }

  resync(follower: Follower): boolean {
    if (!this.isFollowed) return true;
    const { position } = this;
    if (!position) return false;
    const { errors, metrics } = this.#context;
    errors.contain("timer", () => {
      const reason = follower.resync(position);
      if (reason) metrics.resyncs.inc({ reason });
    });
    return true;
  }

  /** What a follower missed since `from`, or why history cannot tell. */
  async catchUp(from: contract.Position): Promise<CaughtUp> {
    const { claimPauses } = this.#context;
    this.#catchUp ??= new CatchUp({ tail: this.#ownTail, channel: this, claimPauses });
    return this.#catchUp.from(from);
  }

  async aligned(): Promise<contract.Position | undefined> {
    while (this.isFollowed) {
      const { position } = this;
      if (position) return position;
      await this.#align();
    }
    return undefined;
  }

  /** Publications may be missing from here on. */
  misalign(): void {
    this.#delivery.misalign();
  }

  realign(): void {
    this.misalign();
    void this.repair();
  }

  /** Followers get what they missed, or a resync notice. Repeated until it succeeds. */
  async repair(): Promise<void> {
    try {
      await this.#align();
    } catch (error) {
      this.misalign();
      if (!this.#stopped) this.#context.repairs.failed(this, error);
    }
  }

  /** Aligns the channel where it has not moved since it was misaligned. @returns false where its history has to be read. */
  async confirm(): Promise<boolean> {
    const alignment = this.#delivery.beginAlignment();
    if (!alignment) return true;
    const { from } = alignment;
    try {
      const slice = await this.#readPosition();
      const unmoved = from?.epoch === slice.position.epoch && from.offset === slice.position.offset;
      return unmoved && !this.#delivery.align(alignment, slice);
    } catch (error) {
      this.#noteIncomparable(error);
      return false;
    }
  }

  /** @returns whether the channel stands where it stood at the last call. */
  isQuiet(): boolean {
    const then = this.#offsetThen;
    this.#offsetThen = this.position?.offset;
    return then !== undefined && then === this.#offsetThen;
  }

  /** Finds a last publication that was lost: the broker has it, and no later one shows the gap. */
  async compare(): Promise<void> {
    try {
      const { position } = await this.#readPosition();
      const here = this.position;
      if (!here || (here.epoch === position.epoch && here.offset >= position.offset)) return;
      this.misalign();
      this.#context.repairs.add(this);
    } catch (error) {
      this.#noteIncomparable(error);
    }
  }

  /** The other channels are compared all the same. */
  #noteIncomparable(error: unknown): void {
    this.#context.logger.debug({ err: error, channel: this.name }, "a position could not be compared");
  }

  async readForCatchUp(reading: Reading | undefined, at: contract.Position): Promise<contract.HistorySlice> {
    const bounds = { reaching: at, maxBytes: maxReplayBytes };
    if (!reading) return this.#read("recover", { ...bounds, limit: 0 });
    const start = reading.kind === "newest" ? { newest: true } : { after: reading.offset };
    return this.#read("recover", { ...bounds, ...start, epoch: at.epoch, limit: maxReplayPublications });
  }

  extendTail(at: contract.Position, slice: contract.HistorySlice, reading: Reading): void {
    this.#ownTail.extend(at, slice, reading, { retention: this.#namespace, now: performance.now() });
  }

  get #namespace(): NamespaceOptions {
    return this.#context.rules.rules.namespace(this.name);
  }

  get #ownTail(): Tail {
    return (this.#tail ??= new Tail(this.#context.tailBudget));
  }

  /** One read at a time. */
  async #align(): Promise<void> {
    if (this.position) return;
    this.#aligning ??= this.#readUntilAligned().finally(() => {
      this.#aligning = undefined;
    });
    await this.#aligning;
  }

  async #readUntilAligned(): Promise<void> {
    let again = true;
    while (again) {
      const alignment = this.#delivery.beginAlignment();
      if (!alignment) return;
      const { from, reaching } = alignment;
      const slice = await this.#read("align", {
        ...(from ? { after: from.offset, epoch: from.epoch, limit: alignLimit } : { limit: 0 }),
        ...(reaching && { reaching }),
        maxBytes: alignBytes,
      });
      again = this.#delivery.align(alignment, slice);
      if (slice.keptForMs !== undefined) {
        this.#tail?.keepUntil(slice.position.offset, performance.now() + slice.keptForMs);
      }
    }
  }

  async #readPosition(): Promise<contract.HistorySlice> {
    return this.#read("compare", { limit: 0, maxBytes: 0 });
  }

  async #read(
    kind: "align" | "recover" | "compare",
    query: Omit<contract.HistoryQuery, "channel" | "retention">,
  ): Promise<contract.HistorySlice> {
    const { broker, metrics } = this.#context;
    metrics.historyReads.inc({ kind });
    return broker.readHistory({ channel: this.name, retention: this.#namespace, ...query });
  }
}
