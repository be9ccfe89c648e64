/** What one client was told of one channel, and where that leaves it. Pure. */
import type { RecoveryReason } from "../../shared/protocol/codes.ts";
import type { Position } from "../../shared/protocol/wire.ts";
import type { Chain, ChainItem } from "./chain.ts";
import type { ViolationKind } from "./violations.ts";

/** As a client reads it off the wire. */
export interface SeenPublication {
  offset: number;
  prev?: number | undefined;
  item: string;
}

export interface SeenAck {
  position: Position;
  recovered: boolean;
  reason?: RecoveryReason | undefined;
  publications: readonly SeenPublication[];
}

/** That the client was told to take a snapshot: `from` is where it stood. */
export interface Signal {
  readonly from: Position;
  readonly position: Position;
  readonly reason: string;
  /** How far the channel was known to have come by then: history may have been read further on than `position`. */
  readonly newest: Position;
  /** Nothing was delivered since the signal before. */
  readonly repeated: boolean;
}

/** A step that skips something: whether history had it is known at the end. */
export interface Gap {
  readonly from: Position;
  readonly to: Position;
}

export type Finding = { readonly kind: ViolationKind; readonly detail: string };

type State = "out" | "joining" | "replacing" | "live";

/** Findings kept with their text; the rest only count. */
const maxFindings = 50;
/** Signals and gaps that are kept to be judged; a run with more is lost anyway. */
const maxUndecided = 1_000;
/** The last steps, for whoever has to find out why. */
const maxTrace = 200;

export class FollowerLedger {
  readonly name: string;
  readonly findings: Finding[] = [];
  readonly signals: Signal[] = [];
  readonly gaps: Gap[] = [];
  readonly trace: string[] = [];
  /** Publications, with acks and live. */
  deliveries = 0;
  findingCount = 0;
  readonly #chain: Chain;
  readonly #now: () => number;
  #state: State = "out";
  /** Where the client stands; undefined before the first ack. */
  #position: Position | undefined;
  /** From here to the position it has everything. */
  #since = 0;
  #deliveredSinceSignal = true;

  /** @param options.now ms, for the trace. */
  constructor(options: { name: string; chain: Chain; now: () => number }) {
    this.name = options.name;
    this.#chain = options.chain;
    this.#now = options.now;
  }

  /** What the client presents when it subscribes. */
  get position(): Position | undefined {
    return this.#position;
  }

  get live(): boolean {
    return this.#state === "live";
  }

  /** @param options.again on the connection that follows the channel already: what was on its way does not count. */
  subscribing(options: { again: boolean }): void {
    this.#note(`subscribes from ${text(this.#position)}`);
    this.#state = options.again ? "replacing" : "joining";
  }

  acked(ack: SeenAck): void {
    const { position, recovered, reason, publications } = ack;
    this.#note(`ack ${text(position)} recovered ${recovered} ${reason ?? ""} ${publications.map(short).join(" ")}`);
    this.#state = "live";
    const from = this.#position;
    if (!from) {
      if (recovered || reason) this.#find("falseSignal", `a first subscribe was answered ${recovered} ${reason}`);
      this.#stand(position);
      return;
    }
    if (!recovered) {
      if (reason) this.#signal(from, position, reason);
      else this.#find("unsignalled", `the position ${text(from)} was passed over without a reason`);
      this.#stand(position);
      return;
    }
    for (const publication of publications) this.#take(publication);
    const reached = this.#position;
    if (reached && !same(reached, position)) this.#skip(reached, position);
  }

  delivered(publication: SeenPublication): void {
    this.#note(short(publication));
    if (this.#state === "live") this.#take(publication);
    else if (this.#state !== "replacing") this.#find("unsolicited", `${short(publication)} while ${this.#state}`);
  }

  resynced(position: Position, reason: string): void {
    this.#note(`resync ${text(position)} ${reason}`);
    if (this.#state === "replacing") return;
    if (this.#state !== "live" || !this.#position) {
      this.#find("unsolicited", `a resync to ${text(position)} while ${this.#state}`);
      return;
    }
    this.#signal(this.#position, position, reason);
    this.#stand(position);
  }

  /** Unsubscribed, refused, or without a connection. The position stays. */
  left(why: string): void {
    this.#note(`left: ${why}`);
    this.#state = "out";
  }

  #take({ offset, prev = offset - 1, item }: SeenPublication): void {
    const from = this.#position;
    if (!from) return;
    this.deliveries++;
    this.#deliveredSinceSignal = true;
    const to = { epoch: from.epoch, offset };
    if (offset <= from.offset) {
      const had = offset > this.#since && this.#chain.distance(to, from).kind === "reached";
      const contradiction = this.#chain.add(from.epoch, { offset, prev, item });
      if (contradiction) this.#find("forked", contradiction);
      this.#find(had ? "doubled" : "reordered", `${short({ offset, prev, item })} while at ${text(from)}`);
      return;
    }
    this.#see(from.epoch, { offset, prev, item });
    if (prev === from.offset) this.#position = to;
    else this.#skip(from, to);
  }

  #see(epoch: string, publication: ChainItem): void {
    const contradiction = this.#chain.add(epoch, publication);
    if (contradiction) this.#find("forked", contradiction);
  }

  #skip(from: Position, to: Position): void {
    this.#note(`GAP ${text(from)} → ${text(to)}`);
    if (this.gaps.length < maxUndecided) this.gaps.push({ from, to });
    this.#stand(to);
  }

  #signal(from: Position, position: Position, reason: string): void {
    const repeated = !this.#deliveredSinceSignal;
    const newest = this.#chain.newest(position.epoch);
    if (this.signals.length < maxUndecided) this.signals.push({ from, position, reason, newest, repeated });
    this.#deliveredSinceSignal = false;
  }

  #stand(position: Position): void {
    this.#position = position;
    this.#since = position.offset;
  }

  #find(kind: ViolationKind, detail: string): void {
    this.#note(`VIOLATION ${kind}: ${detail}`);
    this.findingCount++;
    if (this.findings.length < maxFindings) this.findings.push({ kind, detail });
  }

  #note(line: string): void {
    this.trace.push(`${this.#now().toFixed(0)} ${line}`);
    if (this.trace.length > maxTrace) this.trace.shift();
  }
}

export function text(position: Position | undefined): string {
  return position ? `${position.epoch}/${position.offset}` : "nowhere";
}

function short({ offset, prev, item }: SeenPublication): string {
  return `${offset}${prev === undefined || prev === offset - 1 ? "" : `(after ${prev})`}:${item}`;
}

function same(a: Position, b: Position): boolean {
  return a.epoch === b.epoch && a.offset === b.offset;
}
