/** The ledger of one client on one channel: what it received, its position, and what breaks the contract. Pure. */
import type { RecoveryReason } from "../../shared/protocol/codes.ts";
import type { Position } from "../../shared/protocol/wire.ts";
import type { Chain, ChainItem } from "./chain.ts";
import type { ViolationKind } from "./violations.ts";

/** A publication as the client receives it. */
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

/** The gateway announced a gap: the client has to take a snapshot. */
export interface Signal {
  /** The client's position before. */
  readonly from: Position;
  readonly position: Position;
  readonly reason: string;
  /** The newest position known then: the gateway may have read history beyond `position`. */
  readonly newest: Position;
  /** Nothing was delivered since the signal before. */
  readonly repeated: boolean;
}

/** A step that skips publications; the final history shows whether they were lost. */
export interface Gap {
  readonly from: Position;
  readonly to: Position;
}

export type Finding = { readonly kind: ViolationKind; readonly detail: string };

interface TraceStep {
  readonly number: number;
  readonly line: string;
}

type State = "out" | "joining" | "replacing" | "live";

/** Findings kept with their text; further ones only count. */
const maxFindings = 50;
/** Signals and gaps kept for the verdict; a run with more has failed anyway. */
const maxUndecided = 1_000;
/** Steps kept to explain a violation. Publications have a bound of their own: many follow on a signal that is to be explained. */
const maxTurns = 200;
const maxPublications = 60;

export class FollowerLedger {
  readonly name: string;
  readonly findings: Finding[] = [];
  readonly signals: Signal[] = [];
  readonly gaps: Gap[] = [];
  /** Publications received, in acks and live. */
  deliveries = 0;
  findingCount = 0;
  readonly #turns: TraceStep[] = [];
  readonly #publications: TraceStep[] = [];
  #steps = 0;
  readonly #chain: Chain;
  readonly #now: () => number;
  #state: State = "out";
  /** The client's position; undefined before the first ack. */
  #position: Position | undefined;
  /** From this offset to the position it has every publication. */
  #since = 0;
  #deliveredSinceSignal = true;

  /** @param options.now ms, for the trace. */
  constructor(options: { name: string; chain: Chain; now: () => number }) {
    this.name = options.name;
    this.#chain = options.chain;
    this.#now = options.now;
  }

  /** The position that the client presents. */
  get position(): Position | undefined {
    return this.#position;
  }

  /** What happened, oldest first. */
  get trace(): string[] {
    return [...this.#publications, ...this.#turns].sort((a, b) => a.number - b.number).map(({ line }) => line);
  }

  get live(): boolean {
    return this.#state === "live";
  }

  /** @param options.again replaces a subscription of the same connection: publications under way do not count. */
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
      else this.#find("unsignalled", `the position ${text(from)} was ignored without a reason`);
      this.#stand(position);
      return;
    }
    for (const publication of publications) this.#take(publication);
    const reached = this.#position;
    if (reached && !same(reached, position)) this.#skip(reached, position);
  }

  delivered(publication: SeenPublication): void {
    this.#note(short(publication), this.#publications, maxPublications);
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

  /** Unsubscribed, refused, or disconnected. The position stays. */
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

  #note(line: string, steps = this.#turns, most = maxTurns): void {
    steps.push({ number: this.#steps++, line: `${this.#now().toFixed(0)} ${line}` });
    if (steps.length > most) steps.shift();
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
