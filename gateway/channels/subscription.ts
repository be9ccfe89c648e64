import type { Position, Publication } from "../../shared/channels/contract.ts";
import type { RecoveryReason } from "../../shared/protocol/codes.ts";
import type { Resync } from "../../shared/protocol/wire.ts";
import { eventFrame, type Frame } from "../outbox/frames.ts";
import type { Follower } from "./ordered-delivery.ts";
import type { Outbox } from "../outbox/outbox.ts";

/** Why a session may follow a channel. */
export type Access =
  /** `token`: a new token without the channel revokes it. */
  | { by: "token" | "namespace" }
  /** Issued `at`, expires `until`, Unix ms; a later withdrawal revokes it. Others in the channel see `info` of the user. */
  | { by: "grant"; sealed: string; at: number; until: number; info?: unknown };

/** Held for one subscription while its history is read; beyond this its position counts as too far behind. */
const maxHeldBytes = 1024 * 1024;

interface HeldFrame {
  frame: Frame;
  publication: Publication | undefined;
}

/** History has a gap: the frames held before it are dropped. */
interface Break {
  reason: RecoveryReason;
  /** The held frames continue from here; undefined: from no known position. */
  position: Position | undefined;
}

type State =
  | { kind: "joining"; settled: boolean; held: HeldFrame[]; heldBytes: number; broken: Break | undefined }
  | { kind: "live" }
  /** A resync notice is pending: until it is sent, the client gets nothing. */
  | { kind: "lost"; reason: RecoveryReason }
  | { kind: "ended" };

/**
 * One session's subscription to one channel. Until the ack it holds the frames that arrive: none of them precedes the ack, and
 * none is missed between history and live deliveries.
 */
export class Subscription implements Follower {
  readonly channel: string;
  /** Undefined until the session is authorized. */
  access: Access | undefined;
  readonly #outbox: Outbox;
  #state: State = { kind: "joining", settled: false, held: [], heldBytes: 0, broken: undefined };
  /** The client has everything up to here, by the ack, a resync or deliveries: none of it is delivered again. */
  #epoch = "";
  #offset = 0;

  constructor(channel: string, outbox: Outbox) {
    this.channel = channel;
    this.#outbox = outbox;
  }

  /** Its client has the ack. */
  get live(): boolean {
    return this.#state.kind === "live" || this.#state.kind === "lost";
  }

  get ended(): boolean {
    return this.#state.kind === "ended";
  }

  deliver(frame: Frame, publication: Publication): void {
    if (this.#state.kind === "live") {
      if (publication.offset <= this.#offset) return;
      this.#offset = publication.offset;
      this.#outbox.send(frame);
    } else this.#hold(frame, publication);
  }

  deliverEphemeral(frame: Frame): void {
    if (this.#state.kind === "live") this.#outbox.send(frame);
    else this.#hold(frame, undefined);
  }

  markLost(position: Position, reason: RecoveryReason): boolean {
    const state = this.#state;
    if (state.kind === "joining") {
      this.#state = { ...state, held: [], heldBytes: 0, broken: { reason, position } };
      return false;
    }
    // Its own recovery went further than the node had come: it misses nothing.
    if (state.kind === "ended" || (state.kind === "live" && covers(this.#reached, { position, reason }))) return false;
    this.#state = { kind: "lost", reason };
    return state.kind === "live";
  }

  resync(position: Position): RecoveryReason | undefined {
    if (this.#state.kind !== "lost") return undefined;
    const { reason } = this.#state;
    this.#state = { kind: "live" };
    this.#reach(position);
    this.#outbox.send(eventFrame("sync:resync", { channel: this.channel, position, reason } satisfies Resync));
    return reason;
  }

  /**
   * Whether the held frames, or else live deliveries, continue from where the client's recovery ended.
   * @param position read from history.
   * @param live where live deliveries of the channel stand.
   * @returns why they do not; undefined where they do.
   */
  brokenAfter(position: Position, live: Position): RecoveryReason | undefined {
    if (this.#state.kind !== "joining") return undefined;
    if (position.epoch !== live.epoch) return "epoch_changed";
    const { broken, held } = this.#state;
    const follows = held.some((item) => item.publication?.prev === position.offset);
    if (broken && !follows && !covers(position, broken)) return broken.reason;
    const next = held.find(({ publication }) => publication && publication.offset > position.offset);
    const joins = next?.publication ? next.publication.prev === position.offset : live.offset <= position.offset;
    return joins ? undefined : "position_ahead";
  }

  /** The ack is decided: a later gap is a resync notice after it. */
  settle(): void {
    if (this.#state.kind === "joining") this.#state = { ...this.#state, settled: true, broken: undefined };
  }

  /**
   * The ack for `position` is sent: the frames held after it follow at once, then live deliveries.
   * @returns false where history got a gap after {@link settle}: a resync notice is due.
   */
  goLive(position: Position): boolean {
    if (this.#state.kind !== "joining") return true;
    const { held, broken } = this.#state;
    if (broken && !covers(position, broken)) {
      this.#state = { kind: "lost", reason: broken.reason };
      return false;
    }
    this.#state = { kind: "live" };
    this.#reach(position);
    for (const { frame, publication } of held) {
      if (publication) this.deliver(frame, publication);
      else this.deliverEphemeral(frame);
    }
    return true;
  }

  end(): void {
    this.#state = { kind: "ended" };
  }

  get #reached(): Position {
    return { epoch: this.#epoch, offset: this.#offset };
  }

  #reach({ epoch, offset }: Position): void {
    this.#epoch = epoch;
    this.#offset = offset;
  }

  #hold(frame: Frame, publication: Publication | undefined): void {
    if (this.#state.kind !== "joining") return;
    this.#state.heldBytes += frame.bytes;
    // Once settled, frames go to the outbox soon, which has a bound of its own.
    if (this.#state.settled || this.#state.heldBytes <= maxHeldBytes) this.#state.held.push({ frame, publication });
    else {
      const broken = { reason: "too_far_behind", position: undefined } as const;
      this.#state = { ...this.#state, held: [], heldBytes: 0, broken };
    }
  }
}

/**
 * Whether a client at `position` misses nothing of the gap. Where the store lost writes, a client beyond its position has
 * publications that no longer exist.
 */
function covers(position: Position, { position: resumesAt, reason }: Break): boolean {
  if (resumesAt?.epoch !== position.epoch) return false;
  return reason === "position_ahead" ? resumesAt.offset === position.offset : resumesAt.offset <= position.offset;
}
