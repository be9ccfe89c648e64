import type { Position, Publication } from "../../shared/channels/contract.ts";
import type { RecoveryReason } from "../../shared/protocol/codes.ts";
import type { Resync } from "../../shared/protocol/wire.ts";
import { eventFrame, type Frame } from "../outbox/frames.ts";
import type { Follower } from "./hub.ts";
import type { Outbox } from "../outbox/outbox.ts";

/** Why a session may follow a channel, and what goes with it. */
export type Access =
  /** A token that is replaced can take it away again. */
  | { by: "token" | "namespace" }
  /** The grant was issued at `at`; withdrawn later it ends. `until`: Unix ms. `info`: what others see of the user there. */
  | { by: "grant"; sealed: string; at: number; until: number; info?: unknown };

/** Held for one subscription while its history is read; past it the position counts as too far behind. */
const maxHeldBytes = 1024 * 1024;

interface Held {
  frame: Frame;
  publication: Publication | undefined;
}

/** What was held before it is gone. */
interface Break {
  reason: RecoveryReason;
  /** What is held follows on this; undefined: on nothing that is known. */
  position: Position | undefined;
}

type State =
  | { kind: "joining"; settled: boolean; held: Held[]; heldBytes: number; broken: Break | undefined }
  | { kind: "live" }
  /** History did not bridge, and the client has not been told yet: until then it gets nothing. */
  | { kind: "lost"; reason: RecoveryReason }
  | { kind: "ended" };

/**
 * One session's stay in one channel. While joining it holds what arrives, so that nothing of the channel precedes the
 * ack and nothing is missed between history and live.
 */
export class Subscription implements Follower {
  readonly channel: string;
  /** Undefined until that is decided. */
  access: Access | undefined;
  readonly #outbox: Outbox;
  #state: State = { kind: "joining", settled: false, held: [], heldBytes: 0, broken: undefined };
  /** How far the client has come, by the ack, a resync or deliveries: what came until then is not delivered again. */
  #epoch = "";
  #offset = 0;

  constructor(channel: string, outbox: Outbox) {
    this.channel = channel;
    this.#outbox = outbox;
  }

  /** It has begun, as far as its client knows. */
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

  lose(position: Position, reason: RecoveryReason): boolean {
    const state = this.#state;
    if (state.kind === "joining") {
      this.#state = { ...state, held: [], heldBytes: 0, broken: { reason, position } };
      return false;
    }
    // Its own recovery went further than the node had come: it lacks nothing.
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

  /** Why what was held does not follow on a position read from history; undefined: it does. */
  brokenAfter(position: Position, hubPosition: Position): RecoveryReason | undefined {
    if (this.#state.kind !== "joining") return undefined;
    if (position.epoch !== hubPosition.epoch) return "epoch_changed";
    const { broken } = this.#state;
    const { held } = this.#state;
    const follows = held.some((item) => item.publication?.prev === position.offset);
    if (broken && !follows && !covers(position, broken)) return broken.reason;
    const next = held.find(({ publication }) => publication && publication.offset > position.offset);
    const joins = next?.publication ? next.publication.prev === position.offset : hubPosition.offset <= position.offset;
    return joins ? undefined : "position_ahead";
  }

  /** Decided where it begins: what breaks from here on is not told by the ack. */
  settle(): void {
    if (this.#state.kind === "joining") this.#state = { ...this.#state, settled: true, broken: undefined };
  }

  /**
   * The ack for `position` is sent: what was held after it follows at once, then everything live.
   * @returns false where history has broken since that was decided: the client has to be told.
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
    // Once settled it goes to the outbox at once, which has a bound of its own.
    if (this.#state.settled || this.#state.heldBytes <= maxHeldBytes) this.#state.held.push({ frame, publication });
    else {
      const broken = { reason: "too_far_behind", position: undefined } as const;
      this.#state = { ...this.#state, held: [], heldBytes: 0, broken };
    }
  }
}

/** Who stands at `position` lacks nothing of what broke; unless writes were lost, and what it has beyond them. */
function covers(position: Position, { position: goesOn, reason }: Break): boolean {
  if (goesOn?.epoch !== position.epoch) return false;
  return reason === "position_ahead" ? goesOn.offset === position.offset : goesOn.offset <= position.offset;
}
