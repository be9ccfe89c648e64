import type { Position, Publication } from "../shared/channels/broker.ts";
import type { RecoveryReason } from "../shared/protocol/codes.ts";
import type { Resync } from "../shared/protocol/wire.ts";
import { eventFrame, type Frame } from "./frames.ts";
import type { Access } from "./channel-access.ts";
import type { Follower } from "./hub.ts";
import type { Outbox } from "./outbox.ts";

/** Held for one subscription while its history is read; past it the position counts as too far behind. */
const maxHeldBytes = 1024 * 1024;

interface Held {
  frame: Frame;
  publication: Publication | undefined;
}

type State =
  | { kind: "joining"; held: Held[]; heldBytes: number; broken: RecoveryReason | undefined }
  | { kind: "live" }
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
  #state: State = { kind: "joining", held: [], heldBytes: 0, broken: undefined };
  /** Delivered already, with the ack: not to be delivered again. */
  #reached = 0;

  constructor(channel: string, outbox: Outbox) {
    this.channel = channel;
    this.#outbox = outbox;
  }

  get live(): boolean {
    return this.#state.kind === "live";
  }

  get ended(): boolean {
    return this.#state.kind === "ended";
  }

  deliver(frame: Frame, publication: Publication): void {
    if (this.#state.kind === "live") {
      if (publication.offset > this.#reached) this.#outbox.send(frame);
    } else this.#hold(frame, publication);
  }

  deliverEphemeral(frame: Frame): void {
    if (this.#state.kind === "live") this.#outbox.send(frame);
    else this.#hold(frame, undefined);
  }

  resync(position: Position, reason: RecoveryReason): void {
    this.#reached = 0;
    if (this.#state.kind === "live") {
      this.#outbox.send(eventFrame("sync:resync", { channel: this.channel, position, reason } satisfies Resync));
    } else if (this.#state.kind === "joining") {
      this.#state = { kind: "joining", held: [], heldBytes: 0, broken: reason };
    }
  }

  /** Why what was held does not follow on a position read from history; undefined: it does. */
  brokenAfter(position: Position, hubPosition: Position): RecoveryReason | undefined {
    if (this.#state.kind !== "joining") return undefined;
    if (this.#state.broken) return this.#state.broken;
    if (position.epoch !== hubPosition.epoch) return "epoch_changed";
    const next = this.#state.held.find(({ publication }) => publication && publication.offset > position.offset);
    const joins = next?.publication ? next.publication.prev === position.offset : hubPosition.offset <= position.offset;
    return joins ? undefined : "position_ahead";
  }

  /** The ack for `position` is sent: what was held after it follows at once, then everything live. */
  goLive(position: Position): void {
    if (this.#state.kind !== "joining") return;
    const { held } = this.#state;
    this.#state = { kind: "live" };
    this.#reached = position.offset;
    for (const { frame, publication } of held) {
      if (publication) this.deliver(frame, publication);
      else this.deliverEphemeral(frame);
    }
  }

  end(): void {
    this.#state = { kind: "ended" };
  }

  #hold(frame: Frame, publication: Publication | undefined): void {
    if (this.#state.kind !== "joining") return;
    this.#state.heldBytes += frame.bytes;
    if (this.#state.heldBytes <= maxHeldBytes) this.#state.held.push({ frame, publication });
    else this.#state = { kind: "joining", held: [], heldBytes: 0, broken: "too_far_behind" };
  }
}
